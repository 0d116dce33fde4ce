"""Take the controller out of a network, so that prediction computes it where instances are found."""

from __future__ import annotations

from torch import nn

from condinst.model.condinst import CondInst
from condinst.structures import Controller


def take_controller(model: nn.Module) -> Controller | None:
    """Remove the controller from `model` and return it in float32; None if `model` is no CondInst.

    The model's output then has the maps that the controller reads in place of the filters. The convolution over all
    locations is about a tenth of the network's time, and a picture has filters for a hundred instances.
    """
    if not isinstance(model, CondInst) or not isinstance(model.head.controller, nn.Conv2d):
        return None
    conv = model.head.controller
    assert conv.bias is not None and conv.kernel_size == (3, 3)
    model.head.controller = nn.Identity()
    # (out, channels, 3, 3) → (9·channels, out)
    weight = conv.weight.detach().float().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    return Controller(weight, conv.bias.detach().float())
