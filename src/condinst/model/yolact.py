"""The YOLACT network: its parts in the order of the data (arXiv 1904.02689, §3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from condinst.model.backbones.backbone import Backbone
from condinst.model.heads.yolact.anchor_head import ANCHORS, AnchorHead, AnchorOutput
from condinst.model.heads.yolact.protonet import Protonet
from condinst.model.pyramids.yolact_fpn import YolactFPN
from condinst.settings.model import ModelConfig


class YolactOutput(NamedTuple):
    """The result of one forward pass.

    head: the output of the head. prototypes: (N, F, h, w) ≥ 0, twice the size of P3. semantic_logits: (N, C, h, w) at
    the size of P3, or None if the model has no semantic head or is in evaluation mode. The logits of class c are in
    channel (c − 1) mod C, as in the published models. size: (2,) int64, the height and width of the padded input.
    """

    head: AnchorOutput
    prototypes: Tensor
    semantic_logits: Tensor | None
    size: Tensor


class Yolact(nn.Module):
    """The YOLACT network. The forward pass gives a `YolactOutput`, in training and in evaluation mode.

    The input is (N, 3, H, W) float32, normalised. pretrained: let timm download ImageNet weights for the backbone.
    Raises ModelError if the backbone cannot be built.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        classes = max(len(config.classes), 1)
        channels, head, branch = config.fpn_channels, config.head, config.mask_branch
        self.backbone = Backbone(config.backbone, pretrained)
        self.fpn = YolactFPN(self.backbone.channels, channels)
        self.head = AnchorHead(channels, head.channels, head.convs, classes, branch.features)
        self.mask_branch = Protonet(channels, branch.channels, branch.convs, branch.features)
        self.semantic_head = nn.Conv2d(channels, classes, 1) if config.semantic else None
        if self.semantic_head is not None:
            nn.init.xavier_uniform_(self.semantic_head.weight)
            nn.init.zeros_(self.semantic_head.bias)  # type: ignore[arg-type]

    def class_rows(self, name: str, classes: int) -> list[list[int]]:
        """The rows of a tensor that belong to each of `classes` classes. The list is empty if none do."""
        if name.startswith("head.class_logits."):
            return [[anchor * (classes + 1) + label for anchor in range(ANCHORS)] for label in range(classes)]
        if name.startswith("semantic_head."):
            return [[(label - 1) % classes] for label in range(classes)]
        return []

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of the backbone again.

        Raises UsageError if the backbone cannot do it.
        """
        self.backbone.set_recompute(wanted)

    def forward(self, images: Tensor) -> YolactOutput:
        pyramid = self.fpn(self.backbone(images))
        semantic = self.semantic_head(pyramid[0]) if self.semantic_head is not None and self.training else None
        size = torch.tensor(images.shape[-2:], device=images.device)
        return YolactOutput(self.head(pyramid), self.mask_branch(pyramid[0]), semantic, size)
