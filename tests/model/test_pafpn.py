"""CSPNeXt-PAFPN: shapes with any backbone, and which maps its paths read."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.backbones.backbone import Backbone
from condinst.model.pyramids.pafpn import PAFPN
from condinst.settings.model import BackboneConfig


@pytest.mark.parametrize("name", ["mobilenetv2_035", "efficientnet_lite0", "resnet18", "cspnext_tiny"])
@torch.no_grad()
def test_any_backbone(name: str) -> None:
    backbone = Backbone(BackboneConfig(name=name, frozen_stages=0)).eval()
    pyramid = PAFPN(backbone.channels, 24, 2).eval()
    levels = pyramid(backbone(torch.randn(2, 3, 64, 96)))
    assert [tuple(level.shape) for level in levels] == [(2, 24, 8, 12), (2, 24, 4, 6), (2, 24, 2, 3)]


class Named(nn.Module):
    """Write down what a layer reads."""

    def __init__(self, layer: nn.Module, name: str, reads: dict[str, Tensor], answers: dict[str, Tensor]) -> None:
        super().__init__()
        self.layer, self.name, self.reads, self.answers = layer, name, reads, answers

    def forward(self, maps: Tensor) -> Tensor:
        self.reads[self.name] = maps
        self.answers[self.name] = self.layer(maps)
        return self.answers[self.name]


@torch.no_grad()
def test_paths() -> None:
    torch.manual_seed(0)
    pyramid = PAFPN((6, 10, 14), 8, 1).eval()
    reads: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    for group, parts in pyramid.named_children():
        assert isinstance(parts, nn.ModuleList)
        for index, part in enumerate(parts):
            parts[index] = Named(part, f"{group}{index}", reads, made)
    c3, c4, c5 = torch.randn(1, 6, 8, 12), torch.randn(1, 10, 4, 6), torch.randn(1, 14, 2, 3)
    levels = pyramid([c3, c4, c5])

    def doubled(maps: Tensor) -> Tensor:
        return F.interpolate(maps, scale_factor=2, mode="nearest")

    expected = {
        "reduce_layers0": c5,
        "top_down_blocks0": torch.cat([doubled(made["reduce_layers0"]), c4], 1),
        "reduce_layers1": made["top_down_blocks0"],
        "top_down_blocks1": torch.cat([doubled(made["reduce_layers1"]), c3], 1),
        "downsamples0": made["top_down_blocks1"],
        "bottom_up_blocks0": torch.cat([made["downsamples0"], made["reduce_layers1"]], 1),
        "downsamples1": made["bottom_up_blocks0"],
        "bottom_up_blocks1": torch.cat([made["downsamples1"], made["reduce_layers0"]], 1),
        "out_convs0": made["top_down_blocks1"],
        "out_convs1": made["bottom_up_blocks0"],
        "out_convs2": made["bottom_up_blocks1"],
    }
    assert reads.keys() == expected.keys()
    assert all(torch.equal(reads[name], maps) for name, maps in expected.items())
    assert all(torch.equal(level, made[f"out_convs{index}"]) for index, level in enumerate(levels))
