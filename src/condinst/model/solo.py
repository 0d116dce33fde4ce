"""The network of the SOLO family: its parts in the order of the data (arXiv 1912.04488, arXiv 2003.10152)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condinst.model.backbones.backbone import Backbone
from condinst.model.heads.solo.decoupled_head import DecoupledHead
from condinst.model.heads.solo.output import SoloOutput
from condinst.model.heads.solo.solo_head import SOLOHead
from condinst.model.heads.solo.solov2_head import SOLOv2Head
from condinst.model.pyramids.subsampled_fpn import SubsampledFPN
from condinst.settings.model import ModelConfig

BACKBONE_MAPS = 4  # C2–C5


class SoloNetwork(nn.Module):
    """SOLO, Decoupled SOLO or SOLOv2. The forward pass gives a `SoloOutput`, in training and in evaluation mode.

    head: the kind of the head; it tells the three methods apart. The input is (N, 3, H, W) float32, normalised; H and W
    are multiples of `config.size_divisor`. pretrained: let timm download ImageNet weights for the backbone. Raises
    ModelError if the backbone cannot be built.
    """

    def __init__(
        self, config: ModelConfig, pretrained: bool = False, *, head: type[SOLOHead | DecoupledHead | SOLOv2Head]
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, pretrained, BACKBONE_MAPS)
        self.fpn = SubsampledFPN(self.backbone.channels, config.fpn_channels)
        self.head = head(config.fpn_channels, config)
        self.recompute = False

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps of backbone and head again.

        Training then needs less memory and the time of one more forward pass. Raises UsageError if the backbone cannot
        do it.
        """
        self.backbone.set_recompute(wanted)
        self.recompute = wanted

    def forward(self, images: Tensor) -> SoloOutput:
        pyramid: tuple[Tensor, ...] = self.fpn(self.backbone(images))
        again = self.recompute and self.training
        output: SoloOutput = checkpoint(self.head, pyramid, use_reentrant=False) if again else self.head(pyramid)
        return output
