"""BlendMask's blender: against loops in float64, and its gradients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.blend import blend, pool_bases

BOXES = torch.tensor([[3.0, 5, 40, 30], [-20, -9, 12, 50], [30, 20, 90, 61], [200, 200, 240, 240]])


def sample(maps: Tensor, x: float, y: float) -> list[float]:
    """Bilinear values of maps (B, h, w) at a point; within a pixel of the border the border's, beyond it 0."""
    height, width = maps.shape[1:]
    if not (-1 <= x <= width and -1 <= y <= height):
        return [0.0] * len(maps)
    x, y = (min(max(at, 0), side - 1) for at, side in ((x, width), (y, height)))
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    u, v = x - left, y - top
    corners = maps[:, top : top + 2, left : left + 2].double()
    weights = torch.tensor([[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]], dtype=torch.float64)
    return (corners * weights).sum(dim=(1, 2)).tolist()


def test_pooled_bases() -> None:
    """One sample at the centre of each cell; half a pixel of shift; the image of each box."""
    bases = torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    images, side = torch.tensor([0, 1, 1, 0]), 7
    pooled = pool_bases(bases, BOXES, images, side, 4)
    assert pooled.shape == (4, 3, side, side)
    for one, (box, image) in enumerate(zip(BOXES.tolist(), images.tolist(), strict=True)):
        for row in range(side):
            for column in range(side):
                x = (box[0] + (box[2] - box[0]) * (column + 0.5) / side) / 4 - 0.5
                y = (box[1] + (box[3] - box[1]) * (row + 0.5) / side) / 4 - 0.5
                expected = torch.tensor(sample(bases[image], x, y))
                torch.testing.assert_close(pooled[one, :, row, column], expected, rtol=1e-4, atol=1e-4)
    assert not pooled[3].any()


def test_blend() -> None:
    """The attention grows first, and the softmax over the bases comes second."""
    generator = torch.Generator().manual_seed(1)
    pooled = torch.randn(5, 4, 8, 8, generator=generator)
    attention = torch.randn(5, 4 * 9, generator=generator)
    logits = blend(pooled, attention)
    grown = F.interpolate(attention.double().reshape(5, 4, 3, 3), (8, 8), mode="bilinear", align_corners=False)
    for one in range(5):
        for row in range(8):
            for column in range(8):
                powers = [math.exp(value) for value in grown[one, :, row, column].tolist()]
                shares = [power / sum(powers) for power in powers]
                expected = sum(a * b for a, b in zip(shares, pooled[one, :, row, column].tolist(), strict=True))
                assert abs(logits[one, row, column].item() - expected) < 1e-5
    early = F.interpolate(attention.reshape(5, 4, 3, 3).softmax(dim=1), (8, 8), mode="bilinear", align_corners=False)
    assert ((early * pooled).sum(dim=1) - logits).abs().max() > 0.01


def test_no_instances() -> None:
    """The graph stays whole."""
    bases = torch.randn(1, 4, 8, 8, requires_grad=True)
    attention = torch.randn(0, 16, requires_grad=True)
    pooled = pool_bases(bases, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 6, 4)
    logits = blend(pooled, attention)
    assert logits.shape == (0, 6, 6)
    logits.sum().backward()
    assert bases.grad is not None
    assert not bases.grad.any()


def test_gradients() -> None:
    pooled = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    attention = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)

    def shares(attention: Tensor) -> Tensor:
        return blend(pooled, attention)

    loss = (shares(attention) * torch.arange(16).reshape(4, 4)).sum()
    loss.backward()
    assert attention.grad is not None
    step = 1e-3
    for one in range(8):
        moved = attention.detach().clone()
        moved[0, one] += step
        change = ((shares(moved) - shares(attention)) * torch.arange(16).reshape(4, 4)).sum().item() / step
        assert abs(change - attention.grad[0, one].item()) < 2e-2
