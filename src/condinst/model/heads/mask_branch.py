"""The mask branch: the mask features that all instances share, from P3–P5 (paper §3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.ops.masks import aligned_bilinear


class MaskBranch(nn.Module):
    """Mask features (N, F, H/8, W/8) from P3, P4 and P5.

    A convolution refines each level. P4 and P5 are enlarged to the size of P3, and the three are summed. A tower of
    3×3 convolutions and a 1×1 convolution follow. ending: what follows the 1×1 convolution; nothing by default.
    """

    def __init__(
        self, in_channels: int, channels: int, convs: int, features: int, ending: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.refine = nn.ModuleList(conv_norm_relu(in_channels, channels) for _ in range(3))
        self.tower = nn.Sequential(*(conv_norm_relu(channels, channels) for _ in range(convs)))
        self.features = nn.Conv2d(channels, features, 1)
        nn.init.kaiming_uniform_(self.features.weight, a=1)
        nn.init.zeros_(self.features.bias)  # type: ignore[arg-type]
        self.ending = ending or nn.Identity()

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """P3, P4, P5 → (N, F, H/8, W/8). Further levels are ignored."""
        total = self.refine[0](pyramid[0])
        for step, refine in enumerate(self.refine[1:], start=1):
            total = total + aligned_bilinear(refine(pyramid[step]), 2**step)
        features: Tensor = self.ending(self.features(self.tower(total)))
        return features


def conv_norm_relu(in_channels: int, channels: int) -> nn.Sequential:
    """A 3×3 convolution without bias, a batch norm and a ReLU. Initialisation: Kaiming uniform with a=1."""
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
