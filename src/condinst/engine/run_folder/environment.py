"""environment.json: versions, machine and command, one record for each start and resume of the run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from condinst.data.sample import AnnotatedData, Instance, Polygons
from condinst.engine.run_folder.log import damaged
from condinst.engine.run_folder.own_files import ENVIRONMENT
from condinst.errors import hide_secrets
from condinst.files import replace_file
from condinst.strict_json import parse_json

PACKAGES = ("condinst", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors", "hotcoco")
PLANNED, MOST = "memory_planned_mb", "memory_most_mb"  # keys of a record
TOLERANCE = 0.2  # part of the planned memory by which a run may stray without a word


def record_environment(
    folder: Path, data: AnnotatedData, accelerator: Accelerator, iteration: int, memory: int | None = None
) -> bool:
    """Add a record to the folder's file, or begin a new file at iteration 0. Return whether the data is unchanged.

    memory: bytes that the plan expects the run to need. Raises CondinstError for a damaged file.
    """
    earlier = _read(folder / ENVIRONMENT) if iteration else []
    planned = {} if memory is None else {PLANNED: round(memory / 2**20)}
    now = describe(data, accelerator) | {"iteration": iteration} | planned
    _write(folder, [*earlier, now])
    return not earlier or earlier[-1]["data"]["digest"] == now["data"]["digest"]


def record_memory(folder: Path, most: int) -> str:
    """Add the most memory that a run has used, in bytes, to the newest record. Return a sentence about the memory.

    The words compare it with the plan if a record of the folder has one. Raises CondinstError for a damaged file.
    """
    records = _read(folder / ENVIRONMENT)
    if records:
        records[-1][MOST] = round(most / 2**20)
        _write(folder, records)
    planned = next((record[PLANNED] for record in reversed(records) if record.get(PLANNED)), None)
    words = f"at most {most / 2**30:.1f} GB"
    if planned is None:
        return words
    ratio = most / 2**20 / planned
    strayed = f", {ratio:.2g} times the plan" if abs(ratio - 1) > TOLERANCE else ""
    return f"{words}{strayed}; the plan expected {planned / 2**10:.1f} GB"


def _write(folder: Path, records: list[dict[str, Any]]) -> None:
    replace_file(folder / ENVIRONMENT, (json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode())


def describe(data: AnnotatedData, accelerator: Accelerator) -> dict[str, Any]:
    """Versions, machine, command and data of a run."""
    device = accelerator.device
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": hide_secrets(shlex.join(sys.argv)),
        "folder": os.getcwd(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "data": {
            "source": str(data.source),
            "pictures": len(data.samples),
            "instances": sum(len(sample.instances) for sample in data.samples),
            "digest": digest(data),
        },
    }


def last_digest(folder: Path) -> str:
    """Return the digest of the training data at the last start of the run in `folder`; empty without a record."""
    records = _read(folder / ENVIRONMENT)
    return str(records[-1]["data"]["digest"]) if records else ""


def digest(data: AnnotatedData) -> str:
    """SHA-256 of the annotations as they were read: pictures' names and sizes, classes, boxes, regions."""
    total = hashlib.sha256(json.dumps(data.classes).encode())
    for sample in data.samples:
        total.update(json.dumps([sample.path.name, sample.width, sample.height, sample.image_id]).encode())
        for instance in sample.instances:
            _add(total, instance)
    return total.hexdigest()


def _add(total: Any, instance: Instance) -> None:
    total.update(json.dumps([instance.label, instance.box, instance.crowd]).encode())
    if isinstance(instance.shape, Polygons):
        for part in instance.shape.parts:
            total.update(part.tobytes())
    elif instance.shape is not None:
        total.update(repr((instance.shape.rle, instance.shape.x, instance.shape.y)).encode())


def _read(path: Path) -> list[dict[str, Any]]:
    """The records so far; none without the file. Raises CondinstError where it does not hold such records."""
    if not path.exists():
        return []
    try:
        records = parse_json(path.read_bytes())
        for record in records:
            str(record["data"]["digest"]), int(record["iteration"])
        if not isinstance(records, list) or not records:
            raise ValueError("it holds no list of records")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(path, error) from None
    return records


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"
