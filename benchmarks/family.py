"""Compare the family: CondInst, its relatives and Mask R-CNN on one backbone, one budget and four data sets.

    python -m benchmarks.family                   # everything: hours on two cores
    python -m benchmarks.family --data nuclei --pictures 100 --out /tmp/family   # a short look at one data set
    python -m benchmarks.family --entries width-2,width-16 --data ""   # some entries; the other results stay
    python -m benchmarks.family --page            # only writes the page again

Every method trains on the training pictures of a data set. It is measured on the held-out pictures after the same
number of pictures, and after the CPU time that CondInst took for them. A run that OUT holds already is not repeated.
Then the program measures what 100 instances cost, one method at a time, and writes docs/explanation/family.md.
`benchmarks/relatives` has the methods and their settings (contest.py), one training (train.py), the costs (cost.py) and
the page (page.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.facts import ROOT, read_facts, run_command
from benchmarks.relatives.contest import ABLATIONS, DATA, FAMILY, FIRST, find_entry
from benchmarks.relatives.cost import measure_cost
from benchmarks.relatives.page import write_page
from benchmarks.relatives.record import FOLDER, Comparison, Cost, Run
from benchmarks.relatives.train import LAST
from benchmarks.speed.measure import KEPT_PAGES, command_line, describe_machine, set_threads
from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file


def main(
    data: Annotated[str, typer.Option(help="Some of nuclei, facade, granular, strawberry.")] = ",".join(DATA),
    ablate: Annotated[str, typer.Option(help="The data sets of the ablations; '' for none.")] = "nuclei",
    entries: Annotated[str, typer.Option(help="Only these, such as solo,width-2; '' for all.")] = "",
    pictures: Annotated[int, typer.Option(min=8, help="That every training sees.")] = 400,
    seed: int = 0,
    datasets: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("datasets"),
    out: Annotated[Path, typer.Option(help="Where the trained models go.")] = Path("runs/family"),
    results: Annotated[Path, typer.Option(help="Where the JSON files go.")] = FOLDER,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at the same time, one thread each.")] = 2,
    rounds: Annotated[int, typer.Option(help="Of the time of 100 instances; 0: leave the costs out.")] = 5,
    page: Annotated[bool, typer.Option("--page", help="Only write the page from the results.")] = False,
) -> None:
    """Train, measure, and write the results and the page."""
    if page:
        write_page(results, ROOT)
        return
    chosen = [name for name in data.split(",") if name]
    ablated = [name for name in ablate.split(",") if name]
    for name in {*chosen, *ablated}:
        if name not in DATA:
            raise UsageError(f"--data {name}: expected some of {', '.join(DATA)}")
        if not (datasets / name / "train.json").is_file():
            raise UsageError(f"{datasets / name}/train.json: not found; docs/how-to/data-sets.md says how to get it")
    names = [name for group in ABLATIONS.values() for name in group]
    wanted = {name: [*FAMILY] if name in chosen else [FIRST] for name in dict.fromkeys([*chosen, *ablated])}
    for name in ablated:
        wanted[name] = list(dict.fromkeys([*wanted[name], *names]))
    if entries:
        only = entries.split(",")
        for unknown in {*only} - {*FAMILY, *names}:
            raise UsageError(f"--entries {unknown}: expected some of {', '.join(dict.fromkeys([*FAMILY, *names]))}")
        wanted = {name: [one for one in [FIRST, *group] if one in {FIRST, *only}] for name, group in wanted.items()}
        wanted = {name: list(dict.fromkeys(group)) for name, group in wanted.items()}
    with ThreadPoolExecutor(jobs) as pool:
        firsts = [pool.submit(train, FIRST, datasets / name, out, pictures, 0.0, seed) for name in wanted]
        seconds = {name: one.result().pictures.seconds for name, one in zip(wanted, firsts, strict=True)}
        others = [(name, entry) for name, entries in wanted.items() for entry in entries if entry != FIRST]
        for done in [
            pool.submit(train, entry, datasets / name, out, pictures, time_of(entry, seconds[name]), seed)
            for name, entry in sorted(others, key=lambda pair: find_entry(pair[1]).like)
        ]:
            done.result()
    for name, entries in wanted.items():
        record(name, entries, {}, datasets, out, results, pictures, seconds[name], seed)
    if rounds:
        set_threads(1)
        for name in chosen:
            measured = [entry for entry in FAMILY if entry in wanted[name]]
            costs = {entry: cost(entry, datasets / name, out, seed, rounds) for entry in measured}
            record(name, wanted[name], costs, datasets, out, results, pictures, seconds[name], seed)
    if results == FOLDER:
        write_page(results, ROOT)


def time_of(entry: str, seconds: float) -> float:
    """The CPU time that an entry trains at least. The ablations compare equal numbers of pictures alone."""
    return seconds if entry in FAMILY else 0.0


def folder_of(out: Path, data: str, seed: int, entry: str) -> Path:
    """Of the trained models of an entry."""
    return out / f"{data}-{seed}" / entry


def code_of(out: Path, data: str, seed: int) -> Path:
    """The file of MEInst's mask code."""
    return out / f"{data}-{seed}" / "code.npz"


def train(entry: str, data: Path, out: Path, pictures: int, seconds: float, seed: int) -> Run:
    """Train and measure an entry in a process of its own, unless OUT has it."""
    folder, code = folder_of(out, data.name, seed, entry), code_of(out, data.name, seed)
    if not (folder / "run.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if find_entry(entry).recipe == "small-meinst" and not code.exists():
            call([sys.executable, "-m", "condinst", "data", "mask-code", str(data), "--out", str(code)], folder)
        options = ["--pictures", str(pictures), "--seconds", str(seconds), "--seed", str(seed), "--code", str(code)]
        call([sys.executable, "-m", "benchmarks.relatives.train", entry, str(data), str(folder), *options], folder)
    run = read_facts(folder / "run.json", Run)
    print(
        f"{data.name}, {entry}: mask AP {run.pictures.mask:.3f} after {run.pictures.pictures} pictures, "
        f"{run.time.mask:.3f} after {run.time.seconds:.0f} s",
        flush=True,
    )
    return run


def call(line: Sequence[str], folder: Path) -> None:
    """Run a program with one thread. Its words go to FOLDER/log.txt."""
    environment = os.environ | KEPT_PAGES | {"OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(line, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        said = (folder / "log.txt").read_text().strip().splitlines() or ["nothing said"]
        raise CondinstError(f"{folder}: ended by {done.returncode}: {said[-1]}")


def cost(entry: str, data: Path, out: Path, seed: int, rounds: int) -> Cost:
    """What 100 instances cost an entry that is trained."""
    folder = folder_of(out, data.name, seed, entry) / LAST
    return measure_cost(entry, data.resolve(), folder.resolve(), seed, code_of(out, data.name, seed), rounds)


def record(
    data: str,
    entries: Iterable[str],
    costs: dict[str, Cost],
    datasets: Path,
    out: Path,
    results: Path,
    pictures: int,
    seconds: float,
    seed: int,
) -> None:
    """Write the results of a data set. Results of other entries with as many pictures stay."""
    file = results / f"{data}-{seed}.json"
    before = read_facts(file, Comparison) if file.exists() else None
    kept = before if before is not None and before.pictures == pictures else None
    machine = describe_machine("cpu")
    here = f"{machine.cpu}; torch {machine.versions['torch']}; one thread"
    runs = {entry: read_facts(folder_of(out, data, seed, entry) / "run.json", Run) for entry in entries}
    if kept is not None:
        # CondInst stays as it was measured with the others
        runs = {entry: run for entry, run in runs.items() if entry != FIRST or FIRST not in kept.runs}
    found = Comparison(
        data=data,
        seed=seed,
        command=command_line() if kept is None else kept.command,
        machine=here if kept is None or here in kept.machine else f"{kept.machine}, and {here}",
        pictures=pictures,
        seconds=seconds if kept is None else kept.seconds,
        limit=DATA[data].limit,
        runs=runs if kept is None else kept.runs | runs,
        costs=costs if kept is None else kept.costs | costs,
    )
    results.mkdir(parents=True, exist_ok=True)
    replace_file(file, (found.model_dump_json(indent=1) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
