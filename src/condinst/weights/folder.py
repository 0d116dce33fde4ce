"""The model folder: model.safetensors (tensors) and config.yaml (all settings)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Size, Tensor

from condinst.config import Config
from condinst.errors import CondinstError, ModelError, UsageError
from condinst.files import replace_files
from condinst.methods.choose import build_network
from condinst.model.instance_network import InstanceNetwork
from condinst.recipes import load_recipe
from condinst.weights.card import make_card
from condinst.weights.catalogue import BY_FILE, Checkpoint
from condinst.weights.fetch import digest
from condinst.weights.licence import announce_licence
from condinst.weights.names import CARD_FILE, CONFIG_FILE, FOREIGN_SUFFIXES, WEIGHTS_FILE, resolve
from condinst.weights.obtain import HubOptions, obtain
from condinst.weights.published.pth import read_foreign
from condinst.weights.safetensors_file import pack_safetensors, read_safetensors
from condinst.weights.tensors import METHODS, expected_shapes, misshapen, not_finite, not_plain, other_method


class Stored(NamedTuple):
    """A model on this machine: settings, tensors by condinst's names, and the file of the tensors."""

    config: Config
    tensors: dict[str, Tensor]
    path: Path


def save_model(model: InstanceNetwork, config: Config, folder: Path, half: bool = False, card: bool = False) -> None:
    """Write `model` and `config` to `folder`, with `card` also a model card. Replace all files or none.

    With `half`, tensors of two or more dimensions are stored as float16. One-dimensional tensors keep their type: they
    are small, and the variance of a norm can be too small for float16. Raises ModelError if a tensor is not finite (a
    diverged run must not replace a good file), CondinstError if the folder cannot be written.
    """
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    broken = not_finite(tensors)
    if broken:
        raise ModelError(f"{folder}: not saved, NaN or infinity in {broken}; lower train.lr or set train.clip_norm")
    files = {CARD_FILE: make_card(config).encode()} if card else {}
    files[CONFIG_FILE] = config.to_yaml().encode()
    # Write the weights last, so that a reader of new weights finds their settings.
    files[WEIGHTS_FILE] = pack_safetensors(tensors)
    try:
        replace_files({folder / name: content for name, content in files.items()})
    except OSError as error:
        raise CondinstError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error


def load_model(source: str | Path) -> tuple[InstanceNetwork, Config]:
    """Load the model `source` (see `resolve`) and its settings. The model is float32, in evaluation mode, on the CPU.

    The function downloads a model that is not on this machine. Raises ModelError for an unknown name, an unreadable
    file, or settings or tensors (names, shapes, values) that do not fit.
    """
    stored = read_model(source)
    model = build_network(stored.config.model)
    fill_model(model, stored)
    return model, stored.config


def read_model(source: str | Path, options: HubOptions | None = None) -> Stored:
    """Read settings and tensors of the model `source`. Print the licence of weights with restrictions.

    A .pth file comes from another program (see `read_foreign`). For a published .pth file, the settings come from its
    recipe. The settings of any other file are in the same folder. Raises ModelError for a model that cannot be found,
    downloaded or read, and for tensors with names, shapes or values that do not fit the settings.
    """
    place = resolve(source)
    path = obtain(place, options)
    foreign = path.suffix in FOREIGN_SUFFIXES
    config, tensors = read_foreign(path) if foreign else _read_folder(path)
    checkpoint = place.copy_of(path.name) if isinstance(place, Checkpoint) else _recognise(path)
    if checkpoint:
        recipe, about = load_recipe(checkpoint.recipe), config.about | checkpoint.about
        if recipe.model.method != config.model.method:
            held, wanted = METHODS[config.model.method], METHODS[recipe.model.method]
            raise ModelError(f"{path}: the file holds {held}, {checkpoint.short} is {wanted}; fetch it again")
        config = recipe.model_copy(update={"model": config.model, "about": about})
    announce_licence(config, str(path))
    return Stored(config, tensors, path)


def fill_model(model: InstanceNetwork, stored: Stored) -> None:
    """Load the tensors into `model`, a network with the same settings. The result is float32, in evaluation mode."""
    model.load_state_dict(stored.tensors)
    model.float().eval()


def _recognise(path: Path) -> Checkpoint | None:
    """Return the published file with the name and checksum of a local file."""
    checkpoint = BY_FILE.get(path.name)
    known = checkpoint is not None and checkpoint.sha256 and digest(path).startswith(checkpoint.sha256)
    return checkpoint if known else None


def _stored(tensor: Tensor, half: bool) -> Tensor:
    narrow = half and tensor.is_floating_point() and tensor.ndim > 1
    return tensor.detach().to("cpu", torch.float16 if narrow else tensor.dtype).contiguous()


def _read_folder(path: Path) -> tuple[Config, dict[str, Tensor]]:
    config = read_config(path.parent / CONFIG_FILE)
    try:
        expected = expected_shapes(config.model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None

    def check(shapes: Mapping[str, Size]) -> None:
        if text := other_method(shapes, config.model.method) or misshapen(shapes, expected):
            message = f"does not fit its {CONFIG_FILE}: {text}"
            raise ModelError(f"{path}: {message}; keep the two files of one model together")

    tensors = read_safetensors(path, check)
    if strange := not_plain(tensors):
        raise ModelError(f"{path}: not real numbers or integers: {strange}; save the model as plain tensors")
    if broken := not_finite(tensors):
        raise ModelError(f"{path}: NaN or infinity in {broken}; the file is unusable, fetch or train it again")
    return config, tensors


def read_config(path: Path) -> Config:
    """The settings in a model's config.yaml. Raises ModelError for a missing file and for wrong settings."""
    if not path.is_file():
        raise ModelError(f"{path}: missing; a model needs its {CONFIG_FILE} beside the weights")
    try:
        return Config.from_yaml(path)
    except UsageError as error:  # the model is at fault, not the command
        raise ModelError(str(error)) from None
