"""Take the controller out of a network, so that prediction computes it where instances are found."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.model.heads.fcos_head import FCOSHead
from condinst.model.heads.level_towers import LevelTowers
from condinst.model.heads.rtmdet_head import RTMDetHead
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.structures import Controller, LevelControllers


def take_controller(model: nn.Module) -> Controller | LevelControllers | None:
    """Remove the controller from `model` and return it in float32; None if the controller cannot be taken out.

    The model's output then has the maps that the controller reads in place of the filters. The convolutions over all
    locations are about a tenth of the network's time, and a picture has filters for a hundred instances. The batch
    norms of RTMDet-Ins must be folded.
    """
    if isinstance(model, RTMDetIns):
        return _take_levels(model.head)
    head = getattr(model, "head", None)
    if not isinstance(head, FCOSHead) or not isinstance(head.controller, nn.Conv2d):
        return None
    conv = head.controller
    assert conv.bias is not None and conv.kernel_size == (3, 3)
    head.controller = nn.Identity()
    # (out, channels, 3, 3) → (9·channels, out)
    weight = conv.weight.detach().float().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    return Controller(weight, conv.bias.detach().float())


def _take_levels(head: RTMDetHead) -> LevelControllers | None:
    if not isinstance(head.controller_tower, LevelTowers):
        return None
    levels = []
    for tower, last in zip(head.controller_tower.levels, head.controller, strict=True):
        convolutions = [part for part in (*tower.modules(), last) if isinstance(part, nn.Conv2d)]
        if any(isinstance(part, nn.BatchNorm2d) for part in tower.modules()):
            return None
        levels.append(tuple(_weights(convolution) for convolution in convolutions))
    head.controller_tower = nn.Identity()
    head.controller = nn.ModuleList(nn.Identity() for _ in levels)
    return LevelControllers(tuple(levels))


def _weights(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert convolution.bias is not None
    return convolution.weight.detach().float(), convolution.bias.detach().float()
