"""Aligned bilinear: output pixel f·i + f//2 is input pixel i, linear between pixels, constant outside."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from condinst.ops.masks import aligned_bilinear


def test_by_hand() -> None:
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert aligned_bilinear(row, 2)[0, 0].tolist() == [[0, 0, 2, 4]] * 2
    assert aligned_bilinear(row, 4)[0, 0].tolist() == [[0, 0, 0, 1, 2, 3, 4, 4]] * 4
    square = torch.tensor([[[[0.0, 2.0], [4.0, 8.0]]]])
    assert aligned_bilinear(square, 2)[0, 0].tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [2, 2, 3.5, 5], [4, 4, 6, 8]]
    assert aligned_bilinear(square, 1) is square


def line(length: int, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel of one axis: the two input pixels around it and the weight of the second."""
    place = np.clip((np.arange(length * factor) - factor // 2) / factor, 0, length - 1)
    low = np.floor(place).astype(int)
    return low, np.minimum(low + 1, length - 1), place - low


def reference(maps: np.ndarray, factor: int) -> np.ndarray:
    top, bottom, down = line(maps.shape[2], factor)
    left, right, across = line(maps.shape[3], factor)
    rows = maps[:, :, top] * (1 - down[:, None]) + maps[:, :, bottom] * down[:, None]
    return rows[..., left] * (1 - across) + rows[..., right] * across


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (3, 1, 1, 7), (0, 2, 3, 3)])
def test_formula(factor: int, shape: tuple[int, int, int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=shape)
    grown = aligned_bilinear(torch.from_numpy(maps), factor).numpy()
    np.testing.assert_allclose(grown, reference(maps, factor), rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_input_pixels_are_kept(factor: int) -> None:
    maps = torch.randn(2, 2, 6, 9)
    kept = aligned_bilinear(maps, factor)[:, :, factor // 2 :: factor, factor // 2 :: factor]
    assert torch.allclose(kept, maps, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 1, 5, 4), (2, 3, 1, 7)])
def test_fast_enlarging_equals_the_definition(
    factor: int, shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computation of eager CPU tensors against that of compilers and other devices, a few maps at a time."""
    monkeypatch.setattr("condinst.ops.masks.NUMBERS_AT_ONCE", 3 * 5 * 4 * factor)
    torch.manual_seed(0)
    maps, weight = torch.randn(shape), torch.randn(shape[0], shape[1], shape[2] * factor, shape[3] * factor)
    results = []
    for traced in (False, True):
        monkeypatch.setattr("condinst.ops.masks.being_traced", lambda traced=traced: traced)
        leaf = maps.clone().requires_grad_()
        grown = aligned_bilinear(leaf, factor)
        (grown * weight).sum().backward()
        results.append((grown.detach(), leaf.grad))
    (fast, fast_grad), (plain, plain_grad) = results
    assert torch.allclose(fast, plain, rtol=0, atol=1e-6)
    assert torch.allclose(fast_grad, plain_grad, rtol=0, atol=2e-6 * factor**2)


def test_channels_stay_last() -> None:
    maps = torch.randn(2, 3, 5, 4).contiguous(memory_format=torch.channels_last)
    grown = aligned_bilinear(maps, 4)
    assert grown.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(grown, aligned_bilinear(maps.contiguous(), 4), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_mirrored(factor: int) -> None:
    """Input pixels lie on output pixel f·i + f/2, so column p mirrors to column W − p (the first has no partner)."""
    maps = torch.randn(1, 1, 4, 5, dtype=torch.float64)
    plain, mirrored = aligned_bilinear(maps, factor), aligned_bilinear(maps.flip(3), factor)
    assert torch.allclose(mirrored[..., 1:], plain[..., 1:].flip(3), atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 3), (1, 1), (1, 4)])
def test_gradient(factor: int, size: tuple[int, int]) -> None:
    maps = torch.randn(2, 1, *size, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda m: aligned_bilinear(m, factor), maps)
