"""`condinst data check`: find mistakes in annotated images before training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import Json, MaxSize, RangeOption, Size
from condinst.cli.terminal.say import say

if TYPE_CHECKING:
    from condinst.config import Config
    from condinst.data.findings import Finding
    from condinst.data.sample import AnnotatedData
    from condinst.doctor.examination import Examination
    from condinst.doctor.repair import Change

EXAMPLES = 3  # findings of each kind that the table shows
ReadFindings = dict[str, tuple["Finding", ...]]


def check(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Recipe or YAML file to check against. Default: the settings that `train` would choose.",
        ),
    ] = None,
    size: Size = None,
    max_size: MaxSize = None,
    range: RangeOption = None,
    json: Json = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write an HTML page with histograms and the worst pictures."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write a repaired copy to this new folder. changes.json lists every change."),
    ] = None,
) -> None:
    """Find mistakes in annotated images.

    Example: condinst data check my_data

    The command never changes DATA; --fix writes a repaired copy. The exit code is 3 if training would fail or give a
    wrong result, and 0 otherwise.
    """
    from condinst.cli.terminal.output import refuse_page, show_progress
    from condinst.doctor.examination import examine
    from condinst.doctor.look import choose_processes
    from condinst.engine.planning.settings import is_planned

    wanted = _wanted(size, max_size, range)
    config = _settings(recipe, wanted)
    if report is not None:
        refuse_page(report)
    if fix is not None:
        from condinst.data.formats.new_folder import check_new

        check_new(fix)
    splits, read_findings = _read(data, images)
    if is_planned(recipe):
        config = _suited(config, wanted, splits)
    processes = choose_processes(sum(len(data.samples) for data in splits.values()))
    examination = examine(splits, read_findings, config, show_progress("looked at"), processes)
    if not json:
        _print(examination, data)
    if report is not None:
        _write_page(examination, config, data, report, json)
    changes = None if fix is None else _repair(examination, data, fix, json)
    if json:
        _print_json(examination, data, fix, changes)
    if not examination.healthy:
        raise typer.Exit(3)


def _wanted(size: int | None, max_size: int | None, range: str | None) -> dict[str, int | str]:
    """Return the settings that the user gave as options."""
    wanted = {"input.shorter": size, "input.longer": max_size, "input.range": range}
    return {key: value for key, value in wanted.items() if value is not None}


def _settings(recipe: str | None, wanted: dict[str, int | str]) -> Config:
    from condinst.engine.planning.settings import base_settings

    config = base_settings(recipe, None, [])
    if "input.shorter" in wanted and "input.longer" not in wanted:
        wanted = wanted | {"input.longer": max(int(wanted["input.shorter"]), config.input.longer)}
    return config.with_overrides([f"{key}={value}" for key, value in wanted.items()])


def _suited(config: Config, wanted: dict[str, int | str], splits: dict[str, AnnotatedData]) -> Config:
    """Return `config` with the input size and the limits that training would choose for the first subset."""
    from condinst.engine.planning.plan import suit_data
    from condinst.engine.planning.statistics import measure_data

    data = next(iter(splits.values()), None)
    if data is None or all(it.crowd for sample in data.samples for it in sample.instances):
        return config
    return suit_data(config, frozenset(wanted), measure_data(data))


def _read(data: Path, images: Path | None) -> tuple[dict[str, AnnotatedData], ReadFindings]:
    """Read each subset and collect the reader's findings.

    A subset that cannot be read becomes a finding. So does a file that no subset uses.
    """
    from dataclasses import replace

    from condinst.data.formats.splits import split_named, without_repeats
    from condinst.data.open import find_source
    from condinst.errors import DataError

    splits: dict[str, AnnotatedData] = {}
    read_findings: ReadFindings = {}
    try:
        source = find_source(data)
    except DataError as error:
        return {}, {"train": (_unreadable(data, error),)}
    for name in source.splits or (split_named(data.stem) or "train",):
        found: list[Finding] = []
        try:
            splits[name] = source.read(name, images, found.append)
        except DataError as error:
            unreadable = _unreadable(data, error)
            found += [] if any(unreadable in earlier for earlier in read_findings.values()) else [unreadable]
        read_findings[name] = tuple(found)
    left: list[Finding] = []
    unread = source.count_unread(splits, images, left.append) if len(splits) == len(read_findings) else []
    read_findings[""] = tuple(left)  # findings that belong to no split
    splits, repeated = without_repeats(splits)
    if (first := next(iter(splits), None)) is not None:
        splits[first] = replace(splits[first], notes=(*splits[first].notes, *repeated, *unread))
    return splits, read_findings


def _unreadable(data: Path, error: Exception) -> Finding:
    from condinst.data.findings import Finding

    place, _, said = str(error).partition(": ")
    file, said = (Path(place), said) if place.startswith(str(data)) else (data, str(error))
    message, _, remedy = said.partition("; ")
    return Finding("bad-file", "error", file, None, message, remedy or "correct it or name another file")


def _write_page(examination: Examination, config: Config, data: Path, file: Path, quiet: bool) -> None:
    from condinst.cli.terminal.output import write_text
    from condinst.doctor.page import make_page

    write_text(file, make_page(examination, config, data))
    if not quiet:
        say(f"the report is in {file}")


def _repair(examination: Examination, data: Path, out: Path, quiet: bool) -> list[Change]:
    from collections import Counter

    from condinst.doctor.treatment import treat

    changes = treat(examination, data, out)
    counts = Counter(change.kind for change in changes)
    summary = ", ".join(f"{count} × {kind}" for kind, count in counts.items()) or "no changes were needed"
    if not quiet:
        say(f"repaired copy: {out} ({summary}); {out / 'changes.json'} lists each change")
    return changes


def _print_json(examination: Examination, data: Path, out: Path | None, changes: list[Change] | None) -> None:
    from json import dumps

    from condinst.doctor.summary import to_dict
    from condinst.doctor.write_copy import listed

    document = to_dict(examination, data)
    if changes is not None:
        document["fixed"] = {"folder": str(out), "changes": [listed(change, data) for change in changes]}
    typer.echo(dumps(document, allow_nan=False))


def _print(examination: Examination, data: Path) -> None:
    """Print a table of the findings, then the totals."""
    for notes in (split.notes for split in examination.splits.values()):
        for note in notes:
            say(f"note: {note}", err=True)
    if examination.findings:
        _print_table(examination, data)
    for line in _totals(examination):
        say(line)


def _print_table(examination: Examination, data: Path) -> None:
    """Print a row for each kind of finding: the count, the first findings and the remedy."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from condinst.cli.terminal.output import PLAIN_WIDTH
    from condinst.doctor.summary import by_kind, shorten
    from condinst.errors import one_line

    table = Table(show_lines=True)
    table.add_column("kind")
    table.add_column("count", justify="right")
    table.add_column("examples and remedy", overflow="fold")
    colours = {"error": "red", "warning": "yellow", "info": "blue"}
    for findings in by_kind(examination.findings):
        first = findings[0]
        lines = [one_line(f"{shorten(it.file, data)}: {it.message}") for it in findings[:EXAMPLES]]
        lines += [f"… and {len(findings) - EXAMPLES} more"] if len(findings) > EXAMPLES else []
        words = Text("\n".join([*lines, f"→ {one_line(first.remedy)}"]))
        table.add_row(Text(f"{first.kind}\n{first.severity}", colours[first.severity]), str(len(findings)), words)
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def _totals(examination: Examination) -> tuple[str, str]:
    from condinst.doctor.summary import summarise

    summary = summarise(examination)
    parts = [f"{part['pictures']} for {name}" for name, part in summary["splits"].items()]
    classes = len(summary["classes"])
    levels = ", ".join(f"{level} {count}" for level, count in summary["levels"].items())
    by_level = f"; by pyramid level: {levels}" if levels else ""
    return (
        f"{summary['pictures']} pictures ({', '.join(parts) or 'none'}), {summary['instances']} objects of "
        f"{classes} class{'' if classes == 1 else 'es'}{by_level}",
        f"errors: {summary['errors']}, warnings: {summary['warnings']}, remarks: {summary['infos']}; "
        + ("ready to train" if examination.healthy else "not ready: training would fail or learn wrong objects"),
    )
