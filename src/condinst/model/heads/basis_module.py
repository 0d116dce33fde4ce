"""The bottom module of BlendMask: the bases that all instances share, from P3–P5 (arXiv 2001.00309, §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.heads.mask_branch import conv_norm_relu

STRIDE = 4  # pixels of the padded input for each pixel of the bases


class BasisModule(nn.Module):
    """Bases (N, bases, H/4, W/4) from P3, P4 and P5: numbers of either sign, without a bound.

    A convolution refines each level. P4 and P5 are enlarged to the size of P3, and the three are summed. A tower of
    `convs` 3×3 convolutions follows, then an enlargement by 2, one more 3×3 convolution and a 1×1 convolution.
    """

    def __init__(self, in_channels: int, channels: int, convs: int, bases: int) -> None:
        super().__init__()
        self.refine = nn.ModuleList(conv_norm_relu(in_channels, channels) for _ in range(3))
        self.tower = nn.Sequential(*(conv_norm_relu(channels, channels) for _ in range(convs)))
        self.fine = conv_norm_relu(channels, channels)
        self.features = nn.Conv2d(channels, bases, 1)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """P3, P4, P5 → (N, bases, H/4, W/4). Further levels are ignored."""
        total = self.refine[0](pyramid[0])
        for level, refine in zip(pyramid[1:], self.refine[1:], strict=False):
            total = total + enlarge_to(refine(level), (total.shape[-2], total.shape[-1]))
        maps = self.tower(total)
        bases: Tensor = self.features(self.fine(enlarge_to(maps, (2 * maps.shape[-2], 2 * maps.shape[-1]))))
        return bases


def enlarge_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps (N, C, h, w) to (N, C, *size), so that the areas of both agree."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
