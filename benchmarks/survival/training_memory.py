"""The memory that `condinst train` plans, and the memory that the run then takes.

    python -m benchmarks.survival.training_memory

Each run is a process of its own: a few steps and a measurement of the largest validation pictures. Writes
benchmarks/results/training-memory.json and prints its table, which docs/how-to/train.md repeats.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.facts import RESULTS, ROOT, Facts, read_facts, run_command
from benchmarks.markdown import table
from condinst.errors import CondinstError
from condinst.files import replace_file

SETS = ("nuclei", "mushrooms", "facade")
FILE = "training-memory.json"


class Use(Facts):
    """One run. planned, most: MB of the training process and of the process that reads its pictures."""

    data: str
    batch: int
    planned: int
    most: int


class Uses(Facts):
    """What the benchmark's JSON file holds."""

    command: str
    settings: tuple[str, ...]
    runs: tuple[Use, ...]


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")] = ROOT.parent / "shared" / "data",
    batch: Annotated[list[int], typer.Option(help="Pictures in a batch; give it several times.")] = [2, 4],  # noqa: B006
    side: Annotated[int, typer.Option(help="Shorter side of the pictures, in pixels.")] = 512,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 20,
    val_pictures: Annotated[int, typer.Option(help="Pictures to measure on.")] = 8,
    only: Annotated[list[str] | None, typer.Option(help="Data sets; default: all.")] = None,
) -> None:
    """Measure all runs and write the JSON file. Runs of an earlier call with the same settings stay."""
    settings = (
        f"input.shorter={side}",
        f"input.longer={side * 4 // 3}",
        "augment.crop=0",
        f"train.iterations={steps}",
        f"train.validate_every={steps}",
        "train.accumulate=1",
        "train.init=none",
    )
    batches = " ".join(f"--batch {size}" for size in batch)
    command = f"python -m benchmarks.survival.training_memory {batches} --side {side} --steps {steps}"
    path, runs = RESULTS / FILE, {}
    if path.exists() and (earlier := read_facts(path, Uses)).settings == settings:
        runs = {(run.data, run.batch): run for run in earlier.runs}
    for name in only or SETS:
        for size in batch:
            run = measure(data / name, size, settings, val_pictures)
            print(f"{name}, batch {size}: {run.planned} MB planned, {run.most} MB taken", file=sys.stderr, flush=True)
            runs[name, size] = run
            found = Uses(command=command, settings=settings, runs=tuple(runs[key] for key in sorted(runs)))
            replace_file(path, (found.model_dump_json(indent=1) + "\n").encode())
    print(to_table(read_facts(path, Uses)))


def measure(folder: Path, batch: int, settings: tuple[str, ...], val_pictures: int) -> Use:
    """Train in another process and read what it has recorded."""
    with tempfile.TemporaryDirectory() as place:
        val, out = Path(place) / "val.json", Path(place) / "run"
        val.write_text(json.dumps(_largest(json.loads((folder / "val.json").read_text()), val_pictures)))
        images = str(folder / "images")
        line = ["train", "--data", str(folder / "train.json"), "--images", images, "--out", str(out)]
        line += ["--val", str(val), "--val-images", images, *settings, f"train.batch_size={batch}"]
        done = subprocess.run([sys.executable, "-m", "condinst", *line], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CondinstError(f"{folder.name}: {done.stderr.strip().splitlines()[-1]}")
        (record,) = json.loads((out / "environment.json").read_text())
    return Use(data=folder.name, batch=batch, planned=record["memory_planned_mb"], most=record["memory_most_mb"])


def _largest(coco: dict[str, list[dict[str, int]]], count: int) -> dict[str, list[dict[str, int]]]:
    images = sorted(coco["images"], key=lambda image: image["width"] * image["height"])[-count:]
    kept = {image["id"] for image in images}
    return coco | {"images": images, "annotations": [one for one in coco["annotations"] if one["image_id"] in kept]}


def to_table(uses: Uses) -> str:
    """The runs as a table in Markdown."""
    rows = [
        (run.data, str(run.batch), f"{run.planned} MB", f"{run.most} MB", f"{run.most / run.planned:.2f}")
        for run in uses.runs
    ]
    return table(("data", "batch", "planned", "taken", "taken ÷ planned"), rows)


if __name__ == "__main__":
    run_command(main)
