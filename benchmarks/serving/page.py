"""Write the table of docs/how-to/serve.md from benchmarks/results/serving-cpu.json.

python -m benchmarks.serving.page            # writes
python -m benchmarks.serving.page --check    # only says whether the page is up to date (exit code 1 if not)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.facts import ROOT, read_facts, run_command
from benchmarks.markdown import table
from benchmarks.serving.record import Load, Serving
from condinst.errors import DataError
from condinst.files import replace_file

BEGIN, END = "<!-- load: written by benchmarks/serving/page.py -->", "<!-- end of load -->"
HEAD = ("picture", "load", "requests/s", "answers/s", "refused", "late", "failed", "no answer", "median", "99 %")


def main(
    root: Annotated[Path, typer.Option(help="Where benchmarks/results/ and docs/ are.")] = ROOT,
    check: Annotated[bool, typer.Option("--check", help="Write nothing.")] = False,
) -> None:
    """Bring the table of docs/how-to/serve.md up to date."""
    page = root / "docs" / "how-to" / "serve.md"
    before = page.read_text(encoding="utf-8")
    record = read_facts(root / "benchmarks" / "results" / "serving-cpu.json", Serving)
    parts = re.split(f"({re.escape(BEGIN)}).*?({re.escape(END)})", before, flags=re.DOTALL)
    if len(parts) != 4:
        raise DataError(f"{page}: expected the markers '{BEGIN}' and '{END}' once")
    text = f"{parts[0]}{BEGIN}\n{section(record)}\n{END}{parts[3]}"
    if check and text != before:
        raise DataError(f"{page}: not what was measured; run python -m benchmarks.serving.page")
    if not check:
        replace_file(page, text.encode())


def section(record: Serving) -> str:
    """The table and what it was measured with."""
    machine, long = record.machine, record.long
    threads = f"{machine.threads} thread{'s' * (machine.threads != 1)}"
    deadlines = " and ".join(f"{seconds:g} s at {size} pixels" for size, seconds in record.deadlines.items())
    statuses = ", ".join(f"{count:,} with {status}" for status, count in sorted(long.statuses.items()))
    first, *_, last = long.resident_mib
    return f"""{table(HEAD, map(row, record.loads), words=2)}

Measured with `{record.command}` on {machine.cpu}, {threads} for the server, model {record.model}, a deadline of
{deadlines}. A refused request gets status 503, a late one 504, a failed one 500.

The long run sent {long.requests:,} requests, one of ten with a fault: {statuses}, {long.lost} without an answer. The
process held {first:,.0f} MiB after the first tenth and {last:,.0f} MiB at the end."""


def row(load: Load) -> tuple[str, ...]:
    """The cells of a line."""
    offered = f"{load.offered:g}" if load.offered else "–"
    counts = (load.refused, load.late, load.failed, load.lost)
    times = (f"{load.p50_ms:,.0f} ms", f"{load.p99_ms:,.0f} ms")
    return (f"{load.size}²", load.what, offered, f"{load.answers_per_second:g}", *map(str, counts), *times)


if __name__ == "__main__":
    run_command(main)
