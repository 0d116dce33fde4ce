"""Checkpoints of a run: a folder per saved iteration, written under a temporary name and renamed."""

from __future__ import annotations

import os
import pickle
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condinst.engine.stop import NAME, list_checkpoints, remedy
from condinst.errors import CondinstError, ModelError, first_line

PARTIAL = ".checkpoint-*"  # what a killed process leaves


def save_checkpoint(folder: Path, iteration: int, weights: dict[str, nn.Module], state: dict[str, Any]) -> Path:
    """Write the modules' weights (safetensors) and `state` (plain containers and tensors); others are removed.

    All of it is on the disk before an older one goes. Raises CondinstError where the disk is full or the folder cannot
    be written; older checkpoints then stay.
    """
    final = folder / NAME.format(iteration)
    temporary, aside = folder / f".{final.name}.tmp", folder / f".{final.name}.old"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, module in weights.items():
            tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
            save_file(tensors, temporary / f"{name}.safetensors")
        content = BytesIO()  # torch's own writer does not say that a disk is full
        torch.save(state | {"iteration": iteration}, content)
        (temporary / "state.pt").write_bytes(content.getbuffer())
        flush_folder(temporary)
        if final.exists():  # of an earlier run in the same folder
            os.replace(final, aside)
        os.replace(temporary, final)
        flush(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk, in the words of each writer
        raise CondinstError(f"{final}: cannot be written ({first_line(error):.120}); {remedy(folder)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    remove_checkpoints(folder, but=final)
    return final


def remove_checkpoints(folder: Path, but: Path | None = None) -> None:
    """Remove all checkpoints and what is left of half-written ones."""
    for other in [*list_checkpoints(folder), *folder.glob(PARTIAL)]:
        if other != but:
            shutil.rmtree(other, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Wait until the files in `folder` and their names are on the disk."""
    for path in folder.iterdir():
        if path.is_file():
            flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows has no such thing for a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # which Windows flushes only if writable
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path, weights: dict[str, nn.Module]) -> dict[str, Any]:
    """Fill the modules and return the state; raises ModelError if the checkpoint does not fit them."""
    try:
        for name, module in weights.items():
            tensors: dict[str, Tensor] = load_file(path / f"{name}.safetensors")
            module.load_state_dict(tensors)
        state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path}: this checkpoint cannot be resumed ({first_line(error):.120}); start anew without --resume"
        ) from error
    return state
