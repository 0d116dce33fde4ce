"""Milliseconds of a frame of `condinst predict FILM --track`: each stage, and the whole.

    python -m benchmarks.tracking.rates

The film is the one of `examples/films/make_film.py`. Every round is a process; its last line says the seconds. The
stages work at the same time, so they add up to more than the whole.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
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
    race,
    run_benchmark,
    run_program,
    save,
    set_threads,
)
from condinst.errors import CondinstError

MAKE = ROOT / "examples" / "films" / "make_film.py"
WHOLE = re.compile(r"frames in ([\d.]+) s \(.*frames/s; ([^)]*)\)")  # in the last line
STAGE = re.compile(r"([a-z ]+) ([\d.]+) s")


def main(
    device: Device = "cpu",
    rounds: Rounds = 3,
    frames: Annotated[int, typer.Option(help="Of the film.")] = 90,
    out: Out = RESULTS,
) -> None:
    """Time of a frame in each stage, and in the whole command."""
    check_device(device)
    set_threads(0)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "pan.mp4"
        run_program([sys.executable, str(MAKE), str(film), str(frames)])
        measurements = race({"condinst predict": partial(predict, film, frames, device)}, "frame", rounds)
    settings = {
        "film": f"{frames} frames of 320×240 pixels from {MAKE.relative_to(ROOT)}, the shipped nuclei model, --track",
        "frame, whole": "without the start of the process",
    }
    save("films", device, settings, [one for one in measurements if ", " in one.what], out)


def predict(film: Path, frames: int, device: str) -> Mapping[str, float]:
    """Milliseconds of a frame in each stage."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "condinst", "predict", str(film), "--model", "nuclei", "--track"]
        said = run_program([*line, "--device", device, "--out", folder]).stderr
    found = WHOLE.search(said)
    if found is None:
        raise CondinstError(f"condinst predict: no times in its last line: {said}")
    seconds = {"whole": found[1]} | {name.strip(): spent for name, spent in STAGE.findall(found[2])}
    return {name: 1000 * float(spent) / frames for name, spent in seconds.items()}


def page_table(folder: Path = RESULTS) -> str:
    """Milliseconds of each stage, as in docs/how-to/films.md."""
    record = load("films-cpu", folder)
    assert record is not None
    rows = [(one.what.removeprefix("frame, "), f"{one.median:.0f}") for one in record.measurements]
    return table(("stage", "ms for a frame"), [*rows[1:], rows[0]])


if __name__ == "__main__":
    run_benchmark(main)
