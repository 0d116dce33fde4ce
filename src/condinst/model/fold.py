"""Batch norms folded into the convolutions before them: the same function with fewer steps, for prediction only."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 64  # of the probe, pixels
AGREEMENT = 1e-3  # of the largest magnitude: far above rounding, far below what a wrong pair does


def fold_norms(model: nn.Module) -> nn.Module:
    """A copy of `model`, in evaluation mode, without the batch norms that directly follow a convolution.

    Which ones do is read off a forward pass of a small random picture. Should the copy answer otherwise than `model`
    there, as with a backbone that uses a convolution twice, an unchanged copy is returned: folding only saves time.
    """
    copy = deepcopy(model).eval()
    probe = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    probe = probe.to(next(copy.parameters()).device)
    with torch.no_grad():
        pairs, expected = _find_pairs(copy, probe)
        for conv, norm in pairs:
            _fold(copy, conv, norm)
        agreed = _agree(copy(probe), expected)
    return copy if agreed else deepcopy(model).eval()


def _find_pairs(model: nn.Module, probe: Tensor) -> tuple[list[tuple[str, str]], object]:
    """Names of (convolution, norm) where the norm read what the convolution wrote; and the model's answer."""
    writers: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that no other gets its number
    pairs: dict[str, str] = {}
    hooks = []

    def wrote(name: str, output: Tensor) -> None:
        writers[id(output)] = name, output

    def read(name: str, source: Tensor) -> None:
        if id(source) in writers:
            pairs[name] = writers[id(source)][0]

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _, __, output, name=name: wrote(name, output)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(lambda _, inputs, name=name: read(name, inputs[0])))
    expected = model(probe)
    for hook in hooks:
        hook.remove()
    once = [conv for conv in pairs.values() if list(pairs.values()).count(conv) == 1]
    return [(conv, norm) for norm, conv in pairs.items() if conv in once], expected


def _fold(model: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
    model.set_submodule(norm_name, _activation(norm))


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What timm's norms do after normalising, if they are of the kind that brings its own activation."""
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()


def _agree(answer: object, expected: object) -> bool:
    if answer is None or expected is None:
        return answer is expected
    if isinstance(answer, Tensor) and isinstance(expected, Tensor):
        largest = expected.abs().max() if expected.numel() else expected.new_zeros(())
        return bool(((answer - expected).abs() <= AGREEMENT * largest).all())
    assert isinstance(answer, tuple) and isinstance(expected, tuple)
    return all(_agree(*both) for both in zip(answer, expected, strict=True))
