"""The CondInst network: its parts in the order of the paper's figure of the architecture (paper §3.1)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from condinst.model.backbones.backbone import Backbone
from condinst.model.heads.fcos_head import FCOSHead
from condinst.model.heads.mask_branch import MaskBranch
from condinst.model.heads.norm_groups import norm_groups
from condinst.model.heads.semantic_head import SemanticHead
from condinst.model.pyramids.bifpn import BiFPN
from condinst.model.pyramids.fpn import FPN
from condinst.settings.model import ModelConfig
from condinst.structures import FilterLayout, NetworkOutput


class CondInst(nn.Module):
    """The CondInst network. The forward pass gives a `NetworkOutput`, in training and in evaluation mode.

        model = CondInst(ModelConfig(classes=("cell",))).eval()
        output = model(torch.zeros(1, 3, 256, 256))

    The input is (N, 3, H, W) float32, normalised; H and W are multiples of `config.size_divisor`. layout: how the
    controller's output splits into layers. pretrained: let timm download ImageNet weights for the backbone. Raises
    ModelError if timm cannot build the backbone.
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
        self.head = FCOSHead(channels, head, classes, self.layout.count)
        ending = ENDINGS[config.filters](branch.features)
        self.mask_branch = (
            MaskBranch(channels, branch.channels, branch.convs, branch.features, ending)
            if self.layout.features
            else None
        )
        self.semantic_head = SemanticHead(channels, branch.channels, classes, head.prior) if config.semantic else None

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of backbone and head again.

        Training then needs less memory and the time of one more forward pass. Raises UsageError if the backbone cannot
        do it.
        """
        self.backbone.set_recompute(wanted)
        self.head.recompute = wanted

    def forward(self, images: Tensor) -> NetworkOutput:
        pyramid = self.fpn(self.backbone(images))
        semantic = self.semantic_head(pyramid[0]) if self.semantic_head is not None and self.training else None
        features = self.mask_branch(pyramid) if self.mask_branch is not None else pyramid[0][:, :0]
        return NetworkOutput(self.head(pyramid), features, semantic)


def _norm_relu(features: int) -> nn.Module:
    return nn.Sequential(nn.GroupNorm(norm_groups(features), features), nn.ReLU())


# by `ModelConfig.filters`: what follows the last convolution of the mask branch, for a number of features
ENDINGS: dict[str, Callable[[int], nn.Module]] = {
    "layers": lambda _: nn.Identity(),
    "kernel": _norm_relu,
    "coefficients": lambda _: nn.ReLU(),
}


def filter_layout(config: ModelConfig) -> FilterLayout:
    """The layout of the controller's output for a configuration."""
    head = config.mask_head
    if config.filters != "layers":  # one convolution without bias
        return FilterLayout(config.mask_branch.features, 0, 1, biases=False, bounded=config.filters == "coefficients")
    return FilterLayout(
        features=0 if head.coordinates == "only" else config.mask_branch.features,
        coordinates=0 if head.coordinates == "none" else 2,
        depth=head.depth,
        width=head.width,
    )
