"""BiFPN against its definition, one node at a time."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.model.pyramids.bifpn import LEVELS, NODES, BiFPN, Fusion, fit, halve

CHANNELS = (3, 4, 5)


def features(height: int, width: int) -> list[Tensor]:
    torch.manual_seed(1)
    sizes = [(height, width)]
    for _ in range(2):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return [torch.randn(2, count, *size) for count, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("size", [(16, 24), (10, 13), (1, 2)])
def test_levels_halve_and_share_a_width(size: tuple[int, int]) -> None:
    inputs = features(*size)
    levels = BiFPN(CHANNELS, 6, 2)(inputs)
    assert [level.shape[-2:] for level in levels[:3]] == [feature.shape[-2:] for feature in inputs]
    for finer, coarser in pairwise(levels):
        assert coarser.shape == (2, 6, -(-finer.shape[-2] // 2), -(-finer.shape[-1] // 2))


def test_fusion_by_hand() -> None:
    torch.manual_seed(0)
    fusion = Fusion(3, 2).eval()
    fusion.weights.data = torch.tensor([0.5, -2.0, 1.5])  # the negative one counts as nothing
    parts = [torch.randn(1, 2, 4, 4) for _ in range(3)]
    mixed = (0.5 * parts[0] + 1.5 * parts[2]) / 2.0001
    swish = mixed * torch.sigmoid(mixed)
    expected = fusion.output[1](F.conv2d(swish, fusion.output[0].weight, padding=1))
    assert torch.allclose(fusion(parts), expected, atol=1e-6)


def test_each_node_reads_its_published_inputs() -> None:
    """Outputs made to be sums of what flows in, then followed by hand."""
    torch.manual_seed(0)
    repeat = BiFPN((6, 6, 6), 6, 1).repeats[0].eval()
    calls: list[list[Tensor]] = []
    for fusion in repeat.fusions:
        fusion.register_forward_hook(lambda _, given, made: calls.append([*given[0], made]))
    inputs = [torch.randn(1, 6, 2**side, 2**side) for side in range(5, 0, -1)]
    outputs = repeat(inputs)
    known = [*inputs]
    for node, call in zip(NODES, calls, strict=True):
        size = inputs[node.level].shape[-2:]
        for part, index in zip(call[:-1], node.inputs, strict=True):
            assert torch.equal(part, fit(known[index], LEVELS[index] - node.level, size))
        known.append(call[-1])
    for output, index in zip(outputs, (8, 9, 10, 11, 12), strict=True):
        assert torch.equal(output, known[index])


def test_resizing() -> None:
    maps = torch.randn(1, 2, 5, 7)
    assert torch.equal(halve(maps), F.max_pool2d(F.pad(maps, (1, 1, 1, 1), value=-torch.inf), 3, 2))
    assert torch.equal(fit(maps, 1, (10, 14)), maps.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert fit(maps, 0, (5, 7)) is maps
    assert torch.equal(fit(maps, -1, (3, 4)), halve(maps))


def test_every_parameter_learns() -> None:
    pyramid = BiFPN(CHANNELS, 6, 2)
    torch.stack([level.square().sum() for level in pyramid(features(16, 16))]).sum().backward()
    assert not [name for name, weight in pyramid.named_parameters() if weight.grad is None]
