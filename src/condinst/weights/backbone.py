"""Initial weights of a backbone, and the settings that they were trained with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from math import isclose
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Size, Tensor, nn

from condinst.errors import ModelError, first_line, one_line
from condinst.npz import read_arrays
from condinst.settings.model import ModelConfig
from condinst.weights.fetch import fetch_url, torch_cache
from condinst.weights.published.adelaidet import FPN_MODEL
from condinst.weights.published.caffe import read_caffe
from condinst.weights.published.pth import ENTRIES, no_state_dict, unpickle
from condinst.weights.safetensors_file import read_safetensors
from condinst.weights.tensors import misshapen, not_finite, not_plain

IMAGENET, MSRA, NONE = "imagenet", "msra", "none"  # values of train.init; any other value is a file
MSRA_FOLDER = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA"
MSRA_FILES = {"resnet50": "R-50.pkl", "resnet101": "R-101.pkl"}
PICKLE = ".pkl"
STAGE = re.compile(r"^stage(\d)\.")  # of a CSPNeXt, counted from 1
Value = TypeVar("Value")
NUMBERS_IN_FILE = 32  # largest bytes per number of a backbone: float64, plus space for a classifier


def load_first_weights(body: nn.Module, init: str, backbone: str) -> None:
    """Load the weights of `train.init` into a feature extractor. For "imagenet", timm has already loaded them.

    backbone: timm's name of the backbone. Raises ModelError if the weights do not exist or do not fit.
    """
    if init == MSRA:
        load_backbone_weights(body, _fetch_msra(backbone))
    elif init not in {IMAGENET, NONE}:
        load_backbone_weights(body, Path(init))


def _fetch_msra(backbone: str) -> Path:
    if backbone not in MSRA_FILES:
        known = " and ".join(MSRA_FILES)
        raise ModelError(f"train.init={MSRA} has weights of {known}, not of '{backbone}'; set train.init={IMAGENET}")
    # other programs also use the file name R-50.pkl
    return fetch_url(f"{MSRA_FOLDER}/{MSRA_FILES[backbone]}", folder=torch_cache() / MSRA)


def differences(model: ModelConfig, init: str, body: Any) -> list[str]:
    """Return the settings, as `section.key=value`, that differ between the training of the initial weights and `model`.

    The result is also empty if the settings are unknown, for files other than a Caffe pickle. body: timm's feature
    extractor.
    """
    if init == IMAGENET:
        seen = _seen_by_timm(model, body)
    elif init == MSRA or Path(init).suffix == PICKLE:
        seen = FPN_MODEL  # the published models start from these weights
    else:
        return []
    pairs = {
        "channel_order": (model.channel_order, seen.channel_order),
        "pixel_mean": (model.pixel_mean, seen.pixel_mean),
        "pixel_std": (model.pixel_std, seen.pixel_std),
        "backbone.stride_in_1x1": (model.backbone.stride_in_1x1, seen.backbone.stride_in_1x1),
        "backbone.same_padding": (model.backbone.same_padding, seen.backbone.same_padding),
    }
    return [f"model.{key}={_as_words(theirs)}" for key, (own, theirs) in pairs.items() if not _alike(own, theirs)]


def _seen_by_timm(model: ModelConfig, body: Any) -> ModelConfig:
    cfg = getattr(body, "pretrained_cfg", None) or {}
    scaled = {
        f"pixel_{part}": tuple(round(255 * value, 3) for value in cfg[part]) for part in ("mean", "std") if part in cfg
    }
    # timm's tf_ models already pad like this
    same_padding = model.backbone.same_padding and model.backbone.name.startswith("tf_")
    backbone = model.backbone.model_copy(update={"stride_in_1x1": False, "same_padding": same_padding})
    return model.model_copy(update={"channel_order": "RGB", "backbone": backbone, **scaled})


def _alike(own: object, theirs: object) -> bool:
    if isinstance(own, tuple) and isinstance(theirs, tuple):
        return all(isclose(one, other, abs_tol=0.5) for one, other in zip(own, theirs, strict=True))
    return own == theirs


def _as_words(value: object) -> str:
    """Format a setting for the command line."""
    return json.dumps(value, separators=(",", ":")).strip('"')


def load_backbone_weights(body: nn.Module, path: Path) -> None:
    """Load the weights in `path` into a timm feature extractor. Offsets of deformable convolutions keep their values.

    `.safetensors`, `.pth`: a state dict with timm's names, or mmdetection's ImageNet file of a CSPNeXt (the function
    ignores a classifier).
    `.pkl`: a ResNet from Caffe (see `read_caffe`). `.npz`: convolutions with folded norms (weight and bias each), in
    the order of the network; the norms become the identity plus the bias. The function runs no code in a file. Raises
    ModelError if names or shapes do not fit, or if numbers are not finite.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file with backbone weights; give train.init=FILE, imagenet, msra or none")
    if path.suffix == ".npz":
        _load_folded(body, path)
        return
    # A batch norm counts its batches and does not use the count, so a file need not have it.
    own = {
        name: tensor
        for name, tensor in body.state_dict().items()
        if ".offset." not in name and not name.endswith(".num_batches_tracked")
    }
    if path.suffix == PICKLE:
        body.load_state_dict(read_caffe(path, {name: tensor.shape for name, tensor in own.items()}), strict=False)
        return
    state = _read_state(path, own)
    _check_shapes(path, {name: tensor.shape for name, tensor in state.items()}, own)
    broken = not_plain(state) or not_finite(state)
    if broken:
        raise ModelError(f"{path}: not plain, finite numbers in {broken}; the file is unusable, fetch it again")
    body.load_state_dict(state, strict=False)


def _check_shapes(path: Path, shapes: Mapping[str, Size], own: Mapping[str, Tensor]) -> None:
    if problem := misshapen(shapes, {name: tensor.shape for name, tensor in own.items()}):
        raise ModelError(f"{path}: {problem}; give weights of this backbone by timm's names")


def _read_state(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the file by our names. own: tensors of the network, by name."""
    if path.suffix == ".safetensors":
        names = _names_in_files(own)

        def check(shapes: Mapping[str, Size]) -> None:
            _check_shapes(path, _by_own_names(shapes, names), own)

        return _by_own_names(read_safetensors(path, check, only=names), names)
    state = unpickle(path)
    if not isinstance(state, dict):
        raise ModelError(f"{path}: expected a state dict, got {type(state).__name__}; save the model's state_dict()")
    state = next((state[entry] for entry in ENTRIES if isinstance(state.get(entry), Mapping)), state)
    problem = no_state_dict(state)
    if problem:
        raise ModelError(f"{path}: no state dict ({problem}); save the model's state_dict()")
    return _by_own_names(state, _names_in_files(own))


def _names_in_files(own: Iterable[str]) -> dict[str, str]:
    """Return the names that a file may have for our tensors: name in the file → ours.

    timm counts the stages of a CSPNeXt from 0. mmdetection and mmpretrain write `backbone.` before each name.
    """
    names = {STAGE.sub(lambda found: f"stages.{int(found[1]) - 1}.", name): name for name in own}
    return names | {name: name for name in own} | {f"backbone.{name}": name for name in own}


def _by_own_names(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    return {names[name]: value for name, value in values.items() if name in names}


def _load_folded(body: nn.Module, path: Path) -> None:
    most = NUMBERS_IN_FILE * sum(tensor.numel() for tensor in body.state_dict().values())
    folded = _read_folded(path, most)
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


def _read_folded(path: Path, most: int) -> list[tuple[Tensor, Tensor]]:
    """Read weight and bias of every convolution in the file's order. most: largest total size in bytes."""
    held = read_arrays(path, most)
    try:
        return [
            (torch.from_numpy(array), torch.from_numpy(held[name.removesuffix("weight") + "bias"]))
            for name, array in held.items()
            if array.ndim == 4
        ]
    except (KeyError, TypeError) as error:
        reason = one_line(first_line(error))
        raise ModelError(f"{path}: not readable as weights ({reason:.100}); give another file") from error


def _fill(conv: nn.Conv2d, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> None:
    """Load a convolution and a norm that only adds the bias."""
    assert norm.running_var is not None and norm.running_mean is not None
    with torch.no_grad():
        conv.weight.copy_(weight)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
