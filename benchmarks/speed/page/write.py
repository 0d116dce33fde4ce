"""Write the tables and plots of docs/explanation/speed.md from what was measured: every benchmarks/results/*.json.

python -m benchmarks.speed.page.write            # writes
python -m benchmarks.speed.page.write --check    # only says whether page and plots are up to date (exit code 1 if not)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.facts import ROOT, run_command
from benchmarks.speed.measure import Record, file_name, load
from benchmarks.speed.page.exported import exported
from benchmarks.speed.page.family import family
from benchmarks.speed.page.plots import plots
from benchmarks.speed.page.tables import first, gpu, machine, memory, rivals, scaling, stages, startup, training
from benchmarks.speed.page.targets import targets
from condinst.errors import DataError
from condinst.files import replace_file

BENCHMARKS = ("stages", "scaling", "training_step", "rivals", "family", "exported", "startup")
DEVICES = ("cpu", "cuda")
SECTIONS: dict[str, Callable[[Mapping[str, Record]], str]] = {
    "first": first,
    "targets": targets,
    "stages": stages,
    "scaling": scaling,
    "memory": memory,
    "training": training,
    "rivals": rivals,
    "family": family,
    "exported": exported,
    "startup": startup,
    "gpu": gpu,
    "machine": machine,
}


def main(
    root: Annotated[Path, typer.Option(help="Where benchmarks/results/ and docs/ are.")] = ROOT,
    check: Annotated[bool, typer.Option("--check", help="Write nothing.")] = False,
) -> None:
    """Bring docs/explanation/speed.md and docs/images/speed/*.svg up to date."""
    records = read_records(root / "benchmarks" / "results")
    page = root / "docs" / "explanation" / "speed.md"
    files = {page: fill(page, records)}
    files |= {root / "docs" / "images" / "speed" / f"{name}.svg": picture for name, picture in plots(records).items()}
    for path, text in files.items():
        before = path.read_text(encoding="utf-8") if path.is_file() else None
        if check and before != text:
            raise DataError(f"{path}: not what was measured; run python -m benchmarks.speed.page.write")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())


def read_records(folder: Path) -> dict[str, Record]:
    """By file name, without what was not measured."""
    names = [
        file_name(benchmark, device, kept) for device in DEVICES for benchmark in BENCHMARKS for kept in (False, True)
    ]
    return {name: record for name in names if (record := load(name, folder)) is not None}


def fill(path: Path, records: Mapping[str, Record]) -> str:
    """The page with what stands between its markers replaced; raises DataError for a marker that is missing."""
    page = path.read_text(encoding="utf-8")
    for name, write in SECTIONS.items():
        begin, end = f"<!-- {name}: written by benchmarks/speed/page/write.py -->", f"<!-- end of {name} -->"
        parts = re.split(f"({re.escape(begin)}).*?({re.escape(end)})", page, flags=re.DOTALL)
        if len(parts) != 4:
            raise DataError(f"{path}: expected the markers '{begin}' and '{end}' once, found {len(parts) // 3} times")
        page = f"\n{write(records)}\n".join([parts[0] + begin, end + parts[3]])
    return page


if __name__ == "__main__":
    run_command(main)
