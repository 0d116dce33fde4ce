"""CSPNeXt, the backbone of RTMDet and RTMDet-Ins, in five sizes (arXiv 2212.07784, §3.1 and §3.2)."""

from __future__ import annotations

from typing import NamedTuple

from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condinst.model.backbones.cspnext_blocks import ConvNormSiLU, CSPLayer, SpatialPyramidPooling


class Size(NamedTuple):
    """A size of CSPNeXt. depth and width: factors of the numbers of blocks and of channels of CSPNeXt-L."""

    depth: float
    width: float

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after the stem and after each stage."""
        return tuple(int(count * self.width) for count in CHANNELS)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of blocks in each stage."""
        return tuple(max(round(count * self.depth), 1) for count in BLOCKS)


SIZES = {
    "cspnext_tiny": Size(0.167, 0.375),
    "cspnext_s": Size(0.33, 0.5),
    "cspnext_m": Size(0.67, 0.75),
    "cspnext_l": Size(1.0, 1.0),
    "cspnext_x": Size(1.33, 1.25),
}
CHANNELS = (64, 128, 256, 512, 1024)  # after the stem and after each stage of CSPNeXt-L
BLOCKS = (3, 6, 6, 3)  # in each stage of CSPNeXt-L


class CSPNeXt(nn.Module):
    """Images (N, 3, H, W) → feature maps C3, C4 and C5 at strides 8, 16 and 32.

    maps: the number of feature maps: 3, or 4 with C2 at stride 4. The class has the interface of timm's feature
    extractors. `feature_info` counts the stem as the first stage.
    """

    def __init__(self, size: Size, maps: int = 3) -> None:
        super().__init__()
        stem, *stages = size.channels
        blocks = size.blocks
        half = stem // 2
        self.stem = nn.Sequential(
            ConvNormSiLU(3, half, 3, stride=2), ConvNormSiLU(half, half, 3), ConvNormSiLU(half, stem, 3)
        )
        self.stage1 = _stage(stem, stages[0], blocks[0])
        self.stage2 = _stage(stages[0], stages[1], blocks[1])
        self.stage3 = _stage(stages[1], stages[2], blocks[2])
        self.stage4 = _stage(stages[2], stages[3], blocks[3], last=True)
        self.grad_checkpointing, self.maps = False, maps
        names = ("stem", "stage1", "stage2", "stage3", "stage4")
        self.feature_info = FeatureInfo(
            [
                {"num_chs": count, "reduction": 2 ** (index + 1), "module": name}
                for index, (name, count) in enumerate(zip(names, (stem, *stages), strict=True))
            ],
            out_indices=tuple(range(5 - maps, 5)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, features = images, []
        for stage in (self.stem, self.stage1, self.stage2, self.stage3, self.stage4):
            maps = checkpoint(stage, maps, use_reentrant=False) if self.grad_checkpointing else stage(maps)
            features.append(maps)
        return features[-self.maps :]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set whether the backward pass computes the maps inside each stage again."""
        self.grad_checkpointing = enable


def _stage(in_channels: int, channels: int, blocks: int, last: bool = False) -> nn.Sequential:
    """Half the sides of the map and change its channels. The last stage pools, and has no residual connections."""
    pooling = [SpatialPyramidPooling(channels)] if last else []
    return nn.Sequential(
        ConvNormSiLU(in_channels, channels, 3, stride=2),
        *pooling,
        CSPLayer(channels, channels, blocks, residual=not last, attention=True),
    )
