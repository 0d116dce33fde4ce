"""Checkpoints of a run: a folder per saved iteration, written under a temporary name and renamed."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condinst.errors import CondinstError, ModelError

NAME = "checkpoint-{:08d}"


def save_checkpoint(folder: Path, iteration: int, weights: dict[str, nn.Module], state: dict[str, Any]) -> Path:
    """Write the modules' weights (safetensors) and `state` (plain containers and tensors); others are removed.

    Raises CondinstError where the disk is full or the folder cannot be written; older checkpoints then stay.
    """
    final = folder / NAME.format(iteration)
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, module in weights.items():
            tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
            save_file(tensors, temporary / f"{name}.safetensors")
        torch.save(state | {"iteration": iteration}, temporary / "state.pt")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk, in the words of each writer
        line = (str(error) or "failed").splitlines()[0]
        raise CondinstError(f"{final}: cannot be written ({line:.120}); free some space and --resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in list_checkpoints(folder):
        if other != final:
            shutil.rmtree(other)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-????????"))


def load_checkpoint(path: Path, weights: dict[str, nn.Module]) -> dict[str, Any]:
    """Fill the modules and return the state; raises ModelError if the checkpoint does not fit them."""
    try:
        for name, module in weights.items():
            tensors: dict[str, Tensor] = load_file(path / f"{name}.safetensors")
            module.load_state_dict(tensors)
        state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        line = (str(error) or "damaged").splitlines()[0]
        raise ModelError(
            f"{path}: this checkpoint cannot be resumed ({line:.120}); start anew without --resume"
        ) from error
    return state
