"""Our model format: a folder with model.safetensors (the tensors) and config.yaml (every setting)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from condinst.config import Config
from condinst.errors import CondinstError, ModelError, UsageError
from condinst.files import replace_file
from condinst.model.condinst import CondInst
from condinst.weights.foreign import read_foreign
from condinst.weights.names import CONFIG_FILE, FOREIGN_SUFFIXES, WEIGHTS_FILE, find_weights
from condinst.weights.tensors import misfits, not_finite


def save_model(model: CondInst, config: Config, folder: Path, half: bool = False) -> None:
    """Write `model` and `config` into `folder`, each file replaced in one step.

    With `half`, tensors of two or more dimensions are stored as float16. One-dimensional ones stay as they are: they
    cost little, and a norm's variance can fall below what float16 holds. Raises ModelError if a tensor is not finite
    (a diverged run must not replace a good file), CondinstError if the folder cannot be written.
    """
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    broken = not_finite(tensors)
    if broken:
        raise ModelError(f"{folder}: not saved, NaN or infinity in {broken}; lower train.lr or set train.clip_norm")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The settings first: a reader that meets new weights must find what describes them.
        replace_file(folder / CONFIG_FILE, config.to_yaml().encode())
        replace_file(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    except OSError as error:
        raise CondinstError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error


def load_model(source: str | Path) -> tuple[CondInst, Config]:
    """The model that `source` names (see `find_weights`), float32 in evaluation mode on the CPU, and its settings.

    A .pth file is another program's (see `read_foreign`); every other file lies beside its settings. Raises ModelError
    if the name, the file, its settings, or the names, shapes or values of its tensors do not fit.
    """
    path = find_weights(source)
    config, found = read_foreign(path) if path.suffix in FOREIGN_SUFFIXES else _read_folder(path)
    model = CondInst(config.model)
    _check(found, model.state_dict(), path)
    model.load_state_dict(found)
    return model.float().eval(), config


def _stored(tensor: Tensor, half: bool) -> Tensor:
    narrow = half and tensor.is_floating_point() and tensor.ndim > 1
    return tensor.detach().to("cpu", torch.float16 if narrow else tensor.dtype).contiguous()


def _read_folder(path: Path) -> tuple[Config, dict[str, Tensor]]:
    return _read_config(path.parent / CONFIG_FILE), _read_tensors(path)


def _read_config(path: Path) -> Config:
    if not path.is_file():
        raise ModelError(f"{path}: missing; a model needs its {CONFIG_FILE} beside the weights")
    try:
        return Config.from_yaml(path)
    except UsageError as error:  # the user did not type this file: the model is at fault, not the command
        raise ModelError(str(error)) from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged or not a safetensors file ({error}); fetch or train it again") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None


def _check(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise ModelError unless `found` has the names and shapes of `expected`, and finite numbers."""
    text = misfits(found, {name: tensor.shape for name, tensor in expected.items()})
    if text:
        raise ModelError(f"{path}: does not fit its {CONFIG_FILE}: {text}; keep the two files of one model together")
    broken = not_finite(found)
    if broken:
        raise ModelError(f"{path}: NaN or infinity in {broken}; the file is unusable, fetch or train it again")
