"""Try thousands of damaged files, and keep each that ends in anything but a result or one line.

    python -m benchmarks.fuzz --count 10000 --seed 0

The same seed makes the same files. An input that is at fault is written to --out with its number, and
`python -m benchmarks.fuzz --only NUMBER` tries it alone. The exit code is 1 where there is any fault.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.fuzz.seeds import build
from benchmarks.fuzz.workers import MEMORY, SECONDS, SHARES, Fault, hunt, make_input

OUT = Path("fuzz-faults")
SORTS = {
    "exception": "errors that are none of the package's own",
    "hang": "hangs of more than 10 s",
    "memory": "inputs that took more than 1 GB",
    "crash": "processes that died",
    "words": "messages that are no single line",
}


def main(
    count: Annotated[int, typer.Option(help="How many inputs.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Another seed makes other inputs.")] = 0,
    only: Annotated[int | None, typer.Option(help="The number of the one input to try.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for inputs that are at fault.")] = OUT,
    result: Annotated[Path | None, typer.Option(help="JSON file to write with the numbers of faults.")] = None,
) -> None:
    """Try damaged pictures, data sets, weights, run folders and settings."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the seeds hold the first weights of a network
    os.environ |= {"CONDINST_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    numbers = list(range(count)) if only is None else [only]
    faults, started, told = [], time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        inputs = build(Path(folder) / "valid")
        for done, (number, found) in enumerate(hunt(numbers, seed, inputs, Path(folder) / "scratch"), 1):
            for fault in found:
                faults.append(fault)
                kept = _keep(fault, seed, inputs, out)
                print(f"{fault.sort}: input {number}, kept as {kept}\n{fault.text}", flush=True)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{done} of {len(numbers)} tried, {len(faults)} at fault", flush=True)
    seconds = time.monotonic() - started
    _sum_up(faults, len(numbers), seconds)
    if result is not None:
        _write(result, faults, len(numbers), seed, seconds)
    raise typer.Exit(1 if faults else 0)


def _keep(fault: Fault, seed: int, inputs: dict[str, Path], out: Path) -> Path:
    place = out / f"{seed}-{fault.number}-{fault.sort}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    make_input(fault.number, seed, inputs, place)
    (place / "fault.txt").write_text(fault.text, encoding="utf-8", errors="backslashreplace")
    return place


def _sum_up(faults: list[Fault], count: int, seconds: float) -> None:
    sorts = Counter(fault.sort for fault in faults)
    kinds = ", ".join(f"{share} % {kind}" for kind, share in SHARES.items())
    print(f"{count} inputs ({kinds}) in {seconds:.0f} s")
    for sort, what in SORTS.items():
        print(f"  {sorts[sort]:5} {what}")


def _write(path: Path, faults: list[Fault], count: int, seed: int, seconds: float) -> None:
    sorts = Counter(fault.sort for fault in faults)
    document = {
        "benchmark": "fuzz",
        "command": f"python -m benchmarks.fuzz --count {count} --seed {seed}",
        "versions": {"python": platform.python_version(), "condinst": version("condinst"), "pillow": version("pillow")},
        "inputs": count,
        "shares": SHARES,
        "limits": {"seconds": SECONDS, "memory_mb": MEMORY // 2**20},
        "faults": {sort: sorts[sort] for sort in SORTS},
        "numbers": [fault.number for fault in faults],
        "seconds": round(seconds),
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
