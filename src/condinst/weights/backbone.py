"""Initial weights of a backbone from a local file."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from condinst.errors import ModelError


def load_backbone_weights(body: nn.Module, path: Path) -> None:
    """Fill a timm feature extractor from `path`.

    `.safetensors`, `.pth`: a state dict with timm's own names (the classifier may be there and is left out).
    `.npz`: convolutions with the norm folded in (weight and bias each), in the order the network applies them; the
    norms become the identity plus that bias. Raises ModelError where names or shapes do not fit.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such backbone weights; give train.init=FILE, imagenet (timm fetches) or none")
    if path.suffix == ".npz":
        _load_folded(body, path)
        return
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: not readable as weights ({str(error).splitlines()[0]:.100})") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path}: expected a state dict, got {type(state).__name__}; save the model's state_dict()")
    own = body.state_dict()
    missing = [name for name in own if name not in state]
    wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
    if missing or wrong:
        raise ModelError(
            f"{path}: {len(missing)} tensors missing, {len(wrong)} of another shape; first: {(missing + wrong)[0]}"
        )
    body.load_state_dict({name: state[name] for name in own})


def _load_folded(body: nn.Module, path: Path) -> None:
    folded = _read_folded(path)
    modules = list(body.modules())
    convs = [module for module in modules if isinstance(module, nn.Conv2d)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    if not len(norms) == len(convs) <= len(folded):
        raise ModelError(f"{path}: {len(folded)} folded convolutions do not fit a network of {len(convs)}")
    for conv, (weight, bias) in zip(convs, folded, strict=False):
        expected, found = (conv.weight.shape, conv.weight.shape[:1]), (weight.shape, bias.shape)
        if expected != found:
            shapes = [" and ".join(str(tuple(shape)) for shape in pair) for pair in (expected, found)]
            raise ModelError(f"{path}: expected weight and bias of {shapes[0]}, got {shapes[1]}")
    for conv, norm, (weight, bias) in zip(convs, norms, folded, strict=False):
        _fill(conv, norm, weight, bias)


def _read_folded(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution, in the file's order."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [
                (torch.from_numpy(arrays[name]), torch.from_numpy(arrays[name.removesuffix("weight") + "bias"]))
                for name in arrays.files
                if arrays[name].ndim == 4
            ]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path}: not readable as weights ({str(error).splitlines()[0]:.100})") from error


def _fill(conv: nn.Conv2d, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> None:
    """The convolution, then a norm that only adds the bias."""
    assert norm.running_var is not None and norm.running_mean is not None
    with torch.no_grad():
        conv.weight.copy_(weight)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
