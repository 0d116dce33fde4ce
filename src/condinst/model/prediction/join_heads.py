"""Join the last convolutions of the box tower, for prediction only. The model computes the same function."""

from __future__ import annotations

import torch
from torch import nn

from condinst.model.heads.fcos_head import FCOSHead


def join_heads(model: nn.Module) -> None:
    """Make one convolution of those for distances and centerness in `model`, if it has an FCOS head.

    A convolution with one or four outputs takes as long as one with eight: processors compute several at a time.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, FCOSHead):
        return
    distances, centerness = head.distances, head.centerness
    if not isinstance(distances, nn.Conv2d) or not isinstance(centerness, nn.Conv2d):
        return
    assert distances.bias is not None and centerness.bias is not None
    outputs = distances.out_channels + centerness.out_channels
    joint = nn.Conv2d(distances.in_channels, outputs, 3, padding=1).to(distances.weight).requires_grad_(False)
    joint.weight.copy_(torch.cat((distances.weight, centerness.weight)))
    joint.bias.copy_(torch.cat((distances.bias, centerness.bias)))  # type: ignore[union-attr]
    head.joint = joint
    head.distances, head.centerness = nn.Identity(), nn.Identity()
