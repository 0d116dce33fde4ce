"""The MEInst network: its parts in the order of the paper's figure (arXiv 2003.11712, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condinst.model.backbones.backbone import Backbone
from condinst.model.heads.fcos_head import FCOSHead
from condinst.model.pyramids.fpn import FPN
from condinst.settings.model import ModelConfig
from condinst.structures import MaskCode, NetworkOutput


class CodeTable(nn.Module):
    """The code of the masks as buffers: part of the model, learned from masks before the training."""

    components: Tensor
    variances: Tensor
    means: Tensor

    def __init__(self, numbers: int, cells: int) -> None:
        super().__init__()
        self.register_buffer("components", torch.zeros(numbers, cells))
        self.register_buffer("variances", torch.ones(numbers))
        self.register_buffer("means", torch.zeros(cells))

    def forward(self) -> MaskCode:
        return MaskCode(self.components, self.variances, self.means)

    @property
    def known(self) -> bool:
        """Whether the table was set. A code of zeros draws the same mask for everything."""
        return bool(self.components.any())

    @torch.no_grad()
    def set(self, code: MaskCode) -> None:
        """Take over the tensors of `code`, which have the shapes of the table."""
        for own, other in zip(self(), code, strict=True):
            own.copy_(other)


class MEInst(nn.Module):
    """The MEInst network. The forward pass gives a `NetworkOutput`, in training and in evaluation mode.

    The filters of a location are its mask code. There are no mask features. The input is (N, 3, H, W) float32,
    normalised; H and W are multiples of `config.size_divisor`. pretrained: let timm download ImageNet weights for the
    backbone. Raises ModelError if timm cannot build the backbone.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        classes, levels = max(len(config.classes), 1), len(config.geometry.strides)
        channels, numbers = config.fpn_channels, config.meinst.code
        self.backbone = Backbone(config.backbone, pretrained)
        self.fpn = FPN(self.backbone.channels, channels, levels)
        self.head = FCOSHead(channels, config.head, classes, numbers, levels, mask_tower=True)
        self.mask_code = CodeTable(numbers, config.meinst.resolution**2)

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of backbone and head again. See `CondInst.set_recompute`."""
        self.backbone.set_recompute(wanted)
        self.head.recompute = wanted

    def forward(self, images: Tensor) -> NetworkOutput:
        pyramid = self.fpn(self.backbone(images))
        return NetworkOutput(self.head(pyramid), pyramid[0][:, :0], None, code=self.mask_code())
