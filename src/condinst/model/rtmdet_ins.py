"""The RTMDet-Ins network: its parts in the order of the data (arXiv 2212.07784, §3)."""

from __future__ import annotations

from itertools import chain

from torch import Tensor, nn

from condinst.errors import ModelError
from condinst.model.backbones.backbone import Backbone
from condinst.model.condinst import filter_layout
from condinst.model.heads.mask_feature_module import MaskFeatureModule
from condinst.model.heads.rtmdet_head import RTMDetHead
from condinst.model.pyramids.pafpn import PAFPN
from condinst.settings.model import ModelConfig
from condinst.structures import NetworkOutput


class RTMDetIns(nn.Module):
    """The RTMDet-Ins network. The forward pass gives a `NetworkOutput`, in training and in evaluation mode.

    The input is (N, 3, H, W) float32, normalised; H and W are multiples of `config.size_divisor`. layout: how the
    filters of an instance split into layers. pretrained: let timm download ImageNet weights for the backbone. Raises
    ModelError if the backbone cannot be built, or if `config` wants a semantic head.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        if config.semantic:
            raise ModelError("model.semantic: RTMDet-Ins has no semantic head; set it to false")
        self.config = config
        self.layout = filter_layout(config)
        channels, branch = config.fpn_channels, config.mask_branch
        self.backbone = Backbone(config.backbone, pretrained)
        self.fpn = PAFPN(self.backbone.channels, channels, config.pafpn_blocks)
        self.head = RTMDetHead(channels, config.head, max(len(config.classes), 1), self.layout.count)
        self.mask_branch = (
            MaskFeatureModule(channels, branch.channels, branch.convs, branch.features)
            if self.layout.features
            else None
        )

    @property
    def ema_updates(self) -> dict[str, int]:
        """Parameters and buffers that the published moving average updates several times in a step, and how often.

        It goes through the names of the published state dict. These name a convolution of the class tower once for each
        level, and all tensors of a common tower for classes and boxes twice.
        """
        towers = {"class_tower": self.head.class_tower, "box_tower": self.head.box_tower}
        names = 2 if self.head.box_tower is None else 1
        updates = {}
        for tower, layers in towers.items():
            if layers is None:
                continue
            own = chain(layers.named_parameters(f"head.{tower}"), layers.named_buffers(f"head.{tower}"))
            for name, tensor in own:
                levels = len(layers.norms) if ".convs." in name else 1
                if tensor.is_floating_point() and names * levels > 1:
                    updates[name] = names * levels
        return updates

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of the backbone again.

        The maps of the other parts are kept, because their batch norms would count each batch twice. Raises UsageError
        if the backbone cannot do it.
        """
        self.backbone.set_recompute(wanted)

    def forward(self, images: Tensor) -> NetworkOutput:
        pyramid = self.fpn(self.backbone(images))
        features = self.mask_branch(pyramid) if self.mask_branch is not None else pyramid[0][:, :0]
        return NetworkOutput(self.head(pyramid), features, None)
