"""Fold batch norms into the convolutions before them, for prediction only. The model computes the same function."""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condinst.model.heads.level_towers import SharedTower
from condinst.model.prediction.probe import agree, find_pairs, run_probe


def fold_norms(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode, without the batch norms that directly follow a convolution.

    A forward pass with a small random picture shows which batch norms do. A tower that pyramid levels share, each with
    its own norms, becomes a tower for each level. If the outputs of copy and `model` differ for this picture, for
    example because a backbone uses a convolution twice, the function returns an unchanged copy.
    """
    copy = deepcopy(model).eval()
    for name, module in list(copy.named_modules()):
        if isinstance(module, SharedTower):
            copy.set_submodule(name, module.unshared())
    pairs, expected = find_pairs(copy, nn.Conv2d, (nn.BatchNorm2d,))
    for conv, norm in pairs:
        _fold(copy, conv, norm)
    return copy if agree(run_probe(copy), expected) else deepcopy(model).eval()


def _fold(model: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
    model.set_submodule(norm_name, _activation(norm))


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """The activation inside one of timm's norms, or Identity if the norm has none."""
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()
