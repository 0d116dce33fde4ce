"""Images a second of `condinst predict` over a folder: one process, then --workers 1, 2, … up to the number of cores.

    python -m benchmarks.survival.worker_rates

The folder holds the sample pictures of the nuclei again and again. Each contestant is a whole command, from its start
to its last line, and all must find the same number of objects. The one process has `--json`, because the runs with
--workers draw no overlays.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.facts import RESULTS, ROOT
from benchmarks.markdown import table
from benchmarks.speed.measure import (
    Device,
    Out,
    Rounds,
    check_device,
    load,
    measurement,
    race,
    run_benchmark,
    run_program,
    save,
    set_threads,
)
from condinst.errors import CondinstError

SAMPLES = ROOT / "examples" / "images" / "nuclei"


def main(
    device: Device = "cpu",
    rounds: Rounds = 3,
    pictures: Annotated[int, typer.Option(min=4, help="In the folder.")] = 200,
    mode: Annotated[str, typer.Option(help="Of the predictor: exact or fast.")] = "exact",
    out: Out = RESULTS,
) -> None:
    """Time of a picture with one process and with several."""
    check_device(device)
    cores = set_threads(0)
    counts = [1]
    while counts[-1] < cores:
        counts.append(min(2 * counts[-1], cores))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        fill(folder, pictures)
        options = [str(folder), "--model", "nuclei", "--device", device, "--mode", mode]
        size = str(max(1, pictures // (4 * cores)))
        objects = count_at_once(options)
        contestants = {"one process": partial(check, count_at_once, options, objects)}
        for count in counts:
            words = [*options, "--workers", str(count), "--shard-size", size]
            contestants[f"--workers {count}"] = partial(check, count_in_shards, words, objects)
        measurements = race(contestants, "run", rounds)
    settings = {
        "pictures": f"{pictures}: copies of {SAMPLES.relative_to(ROOT)}, the shipped nuclei model, --mode {mode}",
        "picture": f"the whole command with its start, divided by the pictures; {size} pictures in a shard",
        "objects": f"{objects}, the same for all",
    }
    pace = [measurement("picture", one.who, "ms", [value / pictures for value in one.values]) for one in measurements]
    for one in pace:
        rate = 1000 / one.median
        print(f"{one.who}: {rate:.2f} images/s, {rate / cores:.2f} for each of {cores} cores")
    save("workers", device, settings, pace, out)


def page_table(folder: Path = RESULTS) -> str:
    """Pictures a second, as in docs/how-to/many-pictures.md."""
    record = load("workers-cpu", folder)
    assert record is not None
    rates = [(one.who, 1000 / one.median) for one in record.measurements]
    rows = [(who, f"{rate:.2f}", f"{rate / record.machine.cores:.2f}") for who, rate in rates]
    return table(("processes", "pictures a second", "for each core"), rows)


def fill(folder: Path, pictures: int) -> None:
    """Copy the samples into `folder`, each under many names."""
    folder.mkdir()
    samples = sorted(path for path in SAMPLES.iterdir() if path.suffix == ".png")
    for number in range(pictures):
        sample = samples[number % len(samples)]
        shutil.copyfile(sample, folder / f"{number:05d}{sample.suffix}")


def check(count: Callable[[list[str]], int], options: list[str], objects: int) -> None:
    """Run the command. Raises CondinstError if it finds another number of objects."""
    found = count(options)
    if found != objects:
        raise CondinstError(f"condinst predict {' '.join(options)}: {found} objects, not {objects}")


def count_at_once(options: list[str]) -> int:
    """How many objects one process finds."""
    return len(json.loads(predict([*options, "--json"]))["annotations"])


def count_in_shards(options: list[str]) -> int:
    """How many objects the shards hold."""
    with tempfile.TemporaryDirectory() as out:
        predict([*options, "--out", out])
        shards = sorted(Path(out).glob("results-*.jsonl"))
        return sum(len(json.loads(line)["annotations"]) for shard in shards for line in shard.read_text().splitlines())


def predict(options: list[str]) -> str:
    """What `condinst predict` prints."""
    return run_program([sys.executable, "-m", "condinst", "predict", *options]).stdout


if __name__ == "__main__":
    run_benchmark(main)
