"""Strided depthwise convolutions in float32 while training in bfloat16 on a CPU.

With bfloat16, oneDNN computes the backward pass of a depthwise convolution with a stride 4 to 40 times slower than with
float32. The four such layers of a MobileNetV2 take a quarter of the time of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def widen_strided_depthwise(model: nn.Module) -> None:
    """Let the strided depthwise convolutions of `model` leave CPU autocast: float32 inside, the same dtype outside.

    Parameters and names stay as they are. Outside of autocast nothing changes.
    """
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and part.groups > 1 and max(part.stride) > 1:
            part.register_forward_pre_hook(_before)
            part.register_forward_hook(_after, always_call=True)


def _before(conv: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    narrow = torch.is_autocast_enabled("cpu")
    conv.__dict__["in_autocast"] = narrow
    if not narrow:
        return None
    torch.set_autocast_enabled("cpu", False)
    return (inputs[0].float(),)


def _after(conv: nn.Module, _: Any, output: Tensor | None) -> Tensor | None:
    if not conv.__dict__.pop("in_autocast", False):
        return None
    torch.set_autocast_enabled("cpu", True)
    return None if output is None else output.to(torch.get_autocast_dtype("cpu"))
