"""The mask branch and the semantic head against their own layers applied step by step."""

import math

import pytest
import torch
from torch import nn

from condinst.model.heads.mask_branch import MaskBranch
from condinst.model.heads.semantic_head import SemanticHead
from condinst.ops.masks import aligned_bilinear

PYRAMID = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


def pyramid() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 6, *size) for size in PYRAMID)


def test_three_levels_are_summed_at_p3() -> None:
    branch, levels = MaskBranch(6, 5, 2, 8), pyramid()
    branch.eval()
    total = branch.refine[0](levels[0])
    total = total + aligned_bilinear(branch.refine[1](levels[1]), 2) + aligned_bilinear(branch.refine[2](levels[2]), 4)
    assert torch.allclose(branch(levels), branch.features(branch.tower(total)), atol=1e-6)
    assert branch(levels).shape == (2, 8, 8, 12)


def test_further_levels_are_not_read() -> None:
    branch, levels = MaskBranch(6, 5, 0, 3), pyramid()
    nothing = tuple(torch.full_like(level, math.nan) for level in levels[3:])
    assert branch((*levels[:3], *nothing)).isfinite().all()


def test_features_have_no_activation() -> None:
    assert (MaskBranch(6, 5, 1, 8)(pyramid()) < 0).any()


def test_layers() -> None:
    """conv without bias, norm, ReLU; then one 1×1 convolution with bias."""
    branch = MaskBranch(6, 5, 4, 8)
    convs = [m for m in branch.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.kernel_size for conv in convs] == [(3, 3)] * 7 + [(1, 1)]
    assert [conv.bias is None for conv in convs] == [True] * 7 + [False]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in branch.modules()) == 7
    # kaiming-uniform with a = 1: limit √(6 / (2·fan_in)), which of the larger layers some weight comes near
    for conv in convs:
        limit = math.sqrt(3 / conv.weight[0].numel())
        assert 0.9 * limit < conv.weight.abs().max() <= limit or conv.weight.numel() < 100


def test_semantic_head() -> None:
    head, p3 = SemanticHead(6, 5, 4, 0.01), pyramid()[0]
    logits = head(p3)
    assert logits.shape == (2, 4, 8, 12)
    assert head.logits.bias.tolist() == pytest.approx([-math.log(99)] * 4)
    assert torch.equal(logits, head.logits(head.tower(p3)))
