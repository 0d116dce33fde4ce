"""A 3×3 convolution at chosen places equals the convolution everywhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.convolve_at import convolve_at, read_at, run_at
from condinst.ops.locations import flatten_level

SIZES = ((4, 6), (2, 3), (1, 2), (1, 1))


def levels(channels: int, images: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(channels)
    return tuple(torch.randn(images, channels, *size, generator=generator, dtype=dtype) for size in SIZES)


def everywhere() -> tuple[Tensor, Tensor, Tensor]:
    """Image, level and cell of every place."""
    places = [
        (image, level, cell)
        for image in range(3)
        for level, (height, width) in enumerate(SIZES)
        for cell in range(height * width)
    ]
    return torch.tensor(places).unbind(dim=1)  # type: ignore[return-value]


@pytest.mark.parametrize("last", [False, True])
def test_equals_the_convolution_everywhere(last: bool) -> None:
    maps = levels(5)
    kernel, bias = torch.randn(7, 5, 3, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    dense = [F.conv2d(map_, kernel, bias, padding=1).flatten(2) for map_ in maps]
    if last:
        maps = tuple(map_.contiguous(memory_format=torch.channels_last) for map_ in maps)
    found = convolve_at(maps, kernel.permute(2, 3, 1, 0).flatten(0, 2), bias, *everywhere())
    expected = torch.stack([dense[level][image, :, cell] for image, level, cell in zip(*everywhere(), strict=True)])
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)


def test_reads_the_values_of_the_maps() -> None:
    maps = levels(4)
    found = read_at(maps, *everywhere())
    rows = zip(*everywhere(), strict=True)
    assert torch.equal(found, torch.stack([maps[level][image].flatten(1)[:, cell] for image, level, cell in rows]))


def test_no_place() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert read_at(levels(4), nothing, nothing, nothing).shape == (0, 4)
    assert convolve_at(levels(4), torch.zeros(36, 6).double(), torch.zeros(6).double(), *[nothing] * 3).shape == (0, 6)


def test_half_precision_maps_are_summed_in_the_precision_of_the_weights() -> None:
    maps = levels(8, dtype=torch.float32)
    weight, bias = torch.randn(72, 5), torch.randn(5)
    narrow = tuple(map_.bfloat16() for map_ in maps)
    found = convolve_at(narrow, weight, bias, *everywhere())
    assert found.dtype == torch.float32
    assert torch.equal(found, convolve_at(tuple(map_.float() for map_ in narrow), weight, bias, *everywhere()))


def test_a_stack_at_every_place_is_the_dense_stack() -> None:
    """Two 3×3 convolutions and a 1×1, other weights on each level, also at the borders."""
    draw = torch.Generator().manual_seed(2)

    def layer(outs: int, ins: int, kernel: int) -> tuple[Tensor, Tensor]:
        shape = (outs, ins, kernel, kernel)
        return torch.randn(shape, generator=draw).double(), torch.randn(outs, generator=draw).double()

    maps = levels(4)
    stacks = tuple((layer(5, 4, 3), layer(6, 5, 3), layer(7, 6, 1)) for _ in maps)
    expected = []
    for map_, layers in zip(maps, stacks, strict=True):
        dense = map_
        for number, (weight, bias) in enumerate(layers):
            dense = F.conv2d(dense, weight, bias, padding=weight.shape[-1] // 2)
            dense = F.silu(dense) if number < 2 else dense
        expected.append(flatten_level(dense))
    found = run_at(maps, stacks, *everywhere())
    for numbers, image, level, cell in zip(found, *everywhere(), strict=True):
        assert torch.allclose(numbers, expected[level][image, cell], rtol=0, atol=1e-11)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert run_at(maps, stacks, nothing, nothing, nothing).shape == (0, 7)
