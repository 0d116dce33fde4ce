"""The BlendMask network: its parts in the order of the paper's figure (arXiv 2001.00309, §3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.model.backbones.backbone import Backbone
from condinst.model.heads.basis_module import BasisModule
from condinst.model.heads.fcos_head import FCOSHead
from condinst.model.heads.semantic_head import SemanticHead
from condinst.model.pyramids.fpn import FPN
from condinst.settings.model import ModelConfig
from condinst.structures import NetworkOutput


class BlendMask(nn.Module):
    """The BlendMask network. The forward pass gives a `NetworkOutput`, in training and in evaluation mode.

    The filters of a location are its attention: (bases, attention, attention) numbers before the softmax, base by base
    and row by row. The mask features are the bases. The semantic head, in training only, has the background as its
    first class. The input is (N, 3, H, W) float32, normalised; H and W are multiples of `config.size_divisor`.
    pretrained: let timm download ImageNet weights for the backbone. Raises ModelError if timm cannot build the
    backbone.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        classes, levels = max(len(config.classes), 1), len(config.geometry.strides)
        channels, branch = config.fpn_channels, config.mask_branch
        self.backbone = Backbone(config.backbone, pretrained)
        self.fpn = FPN(self.backbone.channels, channels, levels)
        self.head = FCOSHead(channels, config.head, classes, attention_count(config), levels, scaled=False)
        self.mask_branch = BasisModule(channels, branch.channels, branch.convs, branch.features)
        self.semantic_head = SemanticHead(channels, branch.channels, 1 + classes, None) if config.semantic else None

    def class_rows(self, name: str, classes: int) -> list[list[int]]:
        """The rows of each class in the tensor `name`; none in a tensor without such rows."""
        first = {"head.class_logits": 0, "semantic_head.logits": 1}.get(name.rpartition(".")[0])
        return [] if first is None else [[label + first] for label in range(classes)]

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of backbone and head again. See `CondInst.set_recompute`."""
        self.backbone.set_recompute(wanted)
        self.head.recompute = wanted

    def forward(self, images: Tensor) -> NetworkOutput:
        pyramid = self.fpn(self.backbone(images))
        semantic = self.semantic_head(pyramid[0]) if self.semantic_head is not None and self.training else None
        return NetworkOutput(self.head(pyramid), self.mask_branch(pyramid), semantic)


def attention_count(config: ModelConfig) -> int:
    """The numbers of an instance's attention: 784 by default."""
    return config.mask_branch.features * config.blendmask.attention**2
