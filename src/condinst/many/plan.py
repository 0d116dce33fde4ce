"""The plan of a run over very many pictures: the list of the pictures, frozen in a file, and its division into shards.

A picture belongs to one shard by its place in the list. A shard is done exactly if its file exists. So a run that was
killed at any moment continues without a picture twice or left out.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file
from condinst.many.rows import JSONL

MANIFEST, PLAN = "sources.jsonl", "plan.json"
FORMAT = "shard_format"  # a setting: the ending of the shards
FIRST_KEY, VERSION = "condinst_plan", 1
PART = ".part"  # ending of a shard that is being written
Place = str | tuple[str, int]  # a picture, or a page of a file, counted from 1


class Slice(NamedTuple):
    """The shards of one machine: those with number % machines == machine."""

    machine: int = 0
    machines: int = 1


class Plan(NamedTuple):
    """The list and its shards.

    folder: of the results. pictures: how many. offsets: byte of the list at which each shard begins. settings: those of
    the run.
    """

    folder: Path
    pictures: int
    offsets: tuple[int, ...]
    settings: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """The number of shards."""
        return len(self.offsets)

    @property
    def format(self) -> str:
        """The format of the shards; see `rows`."""
        return str(self.settings.get(FORMAT, JSONL))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"results-{shard:05d}-of-{self.shards:05d}.{self.format}"

    def sources(self, shard: int) -> list[Place]:
        """The pictures of a shard, in order."""
        end = self.offsets[shard + 1] if shard + 1 < self.shards else None
        with (self.folder / MANIFEST).open("rb") as lines:
            lines.seek(self.offsets[shard])
            text = lines.read() if end is None else lines.read(end - self.offsets[shard])
        found = [json.loads(line) for line in text.splitlines()]
        return [(one[0], one[1]) if isinstance(one, list) else one for one in found]

    def waiting(self, part: Slice) -> list[int]:
        """The shards of a slice whose file is missing."""
        return [number for number in range(part.machine, self.shards, part.machines) if not self.path(number).exists()]


def begin(folder: Path, sources: Iterable[Place], size: int, settings: Mapping[str, Any]) -> Plan:
    """Write the plan of a new run. size: pictures of a shard. Raises CondinstError if it cannot be written.

    The list is written as it is read, so it may have millions of pictures.
    """
    offsets, count, end = array("q"), 0, 0
    manifest = folder / MANIFEST
    temporary = manifest.with_name(f".{MANIFEST}{PART}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as lines:
            for source in sources:
                if count % size == 0:
                    offsets.append(end)
                line = json.dumps(source).encode() + b"\n"
                lines.write(line)
                count, end = count + 1, end + len(line)
            lines.flush()
            os.fsync(lines.fileno())
        os.replace(temporary, manifest)
        plan = Plan(folder, count, tuple(offsets), settings)
        told = {FIRST_KEY: VERSION, "pictures": count, "settings": settings, "offsets": list(offsets)}
        replace_file(folder / PLAN, (json.dumps(told) + "\n").encode())
    except OSError as error:
        raise CondinstError(f"{folder}: cannot be written ({error.strerror or error}); choose another --out") from None
    finally:
        temporary.unlink(missing_ok=True)
    return plan


def has_plan(folder: Path) -> bool:
    """Whether the folder holds a plan."""
    return (folder / PLAN).exists()


def read(folder: Path, settings: Mapping[str, Any]) -> Plan:
    """The plan of an earlier run. Raises UsageError where it has other settings, CondinstError for a damaged file."""
    path = folder / PLAN
    try:
        told = json.loads(path.read_bytes())
        if told[FIRST_KEY] != VERSION:
            raise UsageError(f"{path}: another version of condinst wrote this plan; choose another --out")
        plan = Plan(folder, told["pictures"], tuple(told["offsets"]), {FORMAT: JSONL, **told["settings"]})
    except (OSError, ValueError, KeyError, TypeError):
        raise CondinstError(f"{path}: cannot be read as a plan; choose another --out") from None
    for key in settings:
        if plan.settings.get(key) != settings[key]:
            raise UsageError(
                f"{folder}: the earlier run had other settings ({key}); give the same options, or another --out"
            )
    return plan


def remove_parts(plan: Plan, part: Slice) -> None:
    """Remove shards of this slice that an earlier run did not finish."""
    for shard in plan.waiting(part):
        part_path(plan, shard).unlink(missing_ok=True)


def part_path(plan: Plan, shard: int) -> Path:
    """The name of a shard while it is written."""
    path = plan.path(shard)
    return path.with_name(f".{path.name}{PART}")
