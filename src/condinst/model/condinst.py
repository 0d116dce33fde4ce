"""CondInst: the parts in the order of the paper's figure."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.config import ModelConfig
from condinst.model.backbone import Backbone
from condinst.model.bifpn import BiFPN
from condinst.model.fcos_head import FCOSHead
from condinst.model.fpn import FPN
from condinst.model.mask_branch import MaskBranch
from condinst.model.semantic_head import SemanticHead
from condinst.structures import FilterLayout, NetworkOutput


class CondInst(nn.Module):
    """Images (N, 3, H, W), normalised and padded to the config's divisor → NetworkOutput, in every mode.

    `layout` tells how the controller's numbers split. Raises ModelError if timm cannot build the backbone.
    With `pretrained`, timm fetches the backbone's ImageNet weights.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.layout = filter_layout(config)
        classes = max(len(config.classes), 1)
        channels, head, branch = config.fpn_channels, config.head, config.mask_branch
        self.backbone = Backbone(config.backbone, pretrained)
        self.fpn = (
            FPN(self.backbone.channels, channels)
            if config.pyramid == "fpn"
            else BiFPN(self.backbone.channels, channels, config.bifpn_repeats)
        )
        self.head = FCOSHead(
            channels,
            head.channels,
            head.convs,
            classes,
            self.layout.count,
            head.prior,
            head.distance_prior,
            head.tower_std,
        )
        self.mask_branch = (
            MaskBranch(channels, branch.channels, branch.convs, branch.features) if self.layout.features else None
        )
        self.semantic_head = SemanticHead(channels, branch.channels, classes, head.prior) if config.semantic else None

    def set_recompute(self, wanted: bool) -> None:
        """Whether training makes the maps of backbone and head again on the way back: less memory, a forward pass more.

        Raises UsageError for a backbone that cannot.
        """
        self.backbone.set_recompute(wanted)
        self.head.recompute = wanted

    def forward(self, images: Tensor) -> NetworkOutput:
        pyramid = self.fpn(self.backbone(images))
        semantic = self.semantic_head(pyramid[0]) if self.semantic_head is not None and self.training else None
        features = self.mask_branch(pyramid) if self.mask_branch is not None else pyramid[0][:, :0]
        return NetworkOutput(self.head(pyramid), features, semantic)


def filter_layout(config: ModelConfig) -> FilterLayout:
    """How many numbers the controller predicts and what they mean, from the configuration."""
    head = config.mask_head
    return FilterLayout(
        features=0 if head.coordinates == "only" else config.mask_branch.features,
        coordinates=0 if head.coordinates == "none" else 2,
        depth=head.depth,
        width=head.width,
    )
