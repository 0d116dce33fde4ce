"""What a run was made with: environment.json, one record for each time the run was started or resumed."""

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
from condinst.files import replace_file
from condinst.strict_json import parse_json

PACKAGES = ("condinst", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors", "hotcoco")


def record_environment(folder: Path, data: AnnotatedData, accelerator: Accelerator, iteration: int) -> bool:
    """Add a record to the folder's file, a new one at iteration 0; returns whether the data is what it was.

    Raises CondinstError for a damaged file.
    """
    earlier = _read(folder / ENVIRONMENT) if iteration else []
    now = describe(data, accelerator) | {"iteration": iteration}
    replace_file(folder / ENVIRONMENT, (json.dumps([*earlier, now], indent=1, ensure_ascii=False) + "\n").encode())
    return not earlier or earlier[-1]["data"]["digest"] == now["data"]["digest"]


def describe(data: AnnotatedData, accelerator: Accelerator) -> dict[str, Any]:
    """Versions, machine, command and data of a run."""
    device = accelerator.device
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
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
