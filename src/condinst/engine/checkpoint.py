"""Checkpoints of a run. Each is a folder, written under a temporary name, then renamed and read back."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from condinst.engine.stop import NAME, iteration_of, list_checkpoints, remedy
from condinst.errors import CondinstError, ModelError, first_line
from condinst.strict_json import parse_json
from condinst.weights.names import WEIGHTS_FILE
from condinst.weights.published.pickles import check_torch_file

PARTIAL = (".checkpoint-*.tmp", ".checkpoint-*.old")  # files that a killed process leaves behind
STATE, SUMS = "state.pt", "checksums.json"
CONTENT = (STATE, SUMS, "*.safetensors")  # the files of a checkpoint
# errors of torch and safetensors for a damaged file
DAMAGE = (
    *(OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError),
    *(SafetensorError, pickle.UnpicklingError),
)


def save_checkpoint(folder: Path, iteration: int, weights: dict[str, nn.Module], state: dict[str, Any]) -> Path:
    """Write the modules' weights (safetensors) and `state` (plain containers and tensors); remove older checkpoints.

    The function removes an older checkpoint only after it has read the new checkpoint back from the disk unchanged.
    Raises CondinstError if the disk is full, the folder cannot be written, or a file reads back differently. Older
    checkpoints then stay.
    """
    final = folder / NAME.format(iteration)
    temporary, aside = folder / f".{final.name}.tmp", folder / f".{final.name}.old"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        sums = {}
        for name, module in weights.items():
            tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
            sums[f"{name}.safetensors"] = _write(temporary / f"{name}.safetensors", save(tensors))
        content = BytesIO()  # torch's own writer does not report a full disk
        torch.save(state | {"iteration": iteration}, content)
        sums[STATE] = _write(temporary / STATE, content.getbuffer())
        _write(temporary / SUMS, json.dumps(sums, indent=1).encode())
        flush_folder(temporary)
        verify(temporary, sums)
        if final.exists():  # from an earlier run in the same folder
            os.replace(final, aside)
        os.replace(temporary, final)
        flush(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # each writer reports a full disk differently
        raise CondinstError(f"{final}: cannot be written ({first_line(error):.120}); {remedy(folder)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    remove_checkpoints(folder, but=final)
    return final


def _write(path: Path, content: bytes | memoryview) -> str:
    """Write the file. Return the SHA-256 of the intended content."""
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def verify(checkpoint: Path, sums: dict[str, str]) -> None:
    """Raise OSError, naming the file, if the SHA-256 of a file differs from the one in `sums`."""
    for name, expected in sums.items():
        with (checkpoint / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise OSError(f"{name} is damaged: its checksum has changed")


def remove_checkpoints(folder: Path, but: Path | None = None) -> None:
    """Remove all complete and incomplete checkpoints. Files that a user has added to a checkpoint stay."""
    rests = [path for pattern in PARTIAL for path in folder.glob(pattern)]
    for other in [*list_checkpoints(folder), *rests]:
        if other != but:
            for path in [path for pattern in CONTENT for path in other.glob(pattern)]:
                with suppress(OSError):
                    path.unlink()
            with suppress(OSError):  # the folder holds other files
                other.rmdir()


def flush_folder(folder: Path) -> None:
    """Wait until the files in `folder` and their names are on the disk."""
    for path in folder.iterdir():
        if path.is_file():
            flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot flush a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes only writable files
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path, weights: dict[str, nn.Module]) -> dict[str, Any]:
    """Load the weights into the modules and return the state.

    Raises ModelError if a file has changed since it was written, or if the checkpoint does not fit the modules.
    """
    try:
        if (path / SUMS).exists():  # older versions wrote no checksums
            verify(path, _read_sums(path / SUMS, [*(f"{name}.safetensors" for name in weights), STATE]))
        for name, module in weights.items():
            tensors: dict[str, Tensor] = load((path / f"{name}.safetensors").read_bytes())
            module.load_state_dict(tensors)
        check_torch_file(path / STATE)
        state: dict[str, Any] = torch.load(path / STATE, weights_only=True, map_location="cpu")
        if not isinstance(state, dict):
            raise ValueError(f"{STATE} is not the state of a training run")
    except DAMAGE as error:
        raise ModelError(
            f"{path}: this checkpoint cannot be resumed ({first_line(error):.120}); {advice(path)}"
        ) from error
    return state


def _read_sums(path: Path, needed: list[str]) -> dict[str, str]:
    sums = parse_json(path.read_bytes())
    missing = [name for name in needed if not isinstance(sums, dict) or name not in sums]
    if missing:
        raise ValueError(f"{SUMS} has no checksum of {missing[0]}")
    return {name: str(sums[name]) for name in needed}


def advice(path: Path) -> str:
    """Return advice for an unusable checkpoint at `path`."""
    earlier = [other for other in list_checkpoints(path.parent) if iteration_of(other) < iteration_of(path)]
    if earlier:
        return f"remove it; --resume then continues from {earlier[-1].name}"
    if (path.parent / WEIGHTS_FILE).exists():
        return f"train again with another --out; --from {path.parent} starts from its weights"
    return "train again with another --out"
