"""Masks of the SOLO family in the picture: probabilities that grow, against plain torch and against whole pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.inference.full_size import Placement, full_size_values, place_full
from condinst.inference.regions import place
from condinst.ops.bitmaps.rle import decode

# (height, width) of the map, of the picture in the padded input, of the file
SIZES = [
    ((64, 104), (256, 388), (422, 640)),
    ((16, 24), (61, 90), (61, 90)),
    ((16, 16), (64, 64), (300, 290)),
    ((24, 16), (95, 33), (40, 14)),
    ((104, 64), (416, 250), (1300, 781)),
    ((8, 8), (1, 32), (2, 700)),
    ((50, 84), (200, 333), (3, 5)),
]


def soft_maps(size: tuple[int, int], kind: str, count: int = 6) -> Tensor:
    """Probabilities (count, h, w): smooth shapes, noise, or values close to the threshold."""
    generator = torch.Generator().manual_seed(sum(size))
    noise = torch.rand(count, 1, *size, generator=generator)
    if kind == "noise":
        return noise[:, 0]
    if kind == "near":
        return 0.5 + (noise[:, 0] - 0.5) * 1e-5
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=False)[:, 0]
    return torch.sigmoid(20 * (smooth - 0.6))


def by_definition(maps: Tensor, size: tuple[int, int], original: tuple[int, int]) -> NDArray[np.bool_]:
    """Grow by 4, cut the padding off, resize to the file, compare."""
    large = F.interpolate(maps[:, None], scale_factor=4, mode="bilinear", align_corners=False)
    cut = large[:, :, : size[0], : size[1]]
    values = F.interpolate(cut, original, mode="bilinear", align_corners=False)[:, 0]
    return (values > 0.5).numpy()


def placement_of(size: tuple[int, int], original: tuple[int, int]) -> Placement:
    return Placement(4, size, original, 0.5, "soft", mask_stride=4)


@pytest.mark.parametrize("kind", ["smooth", "noise", "near"])
@pytest.mark.parametrize(("cells", "size", "original"), SIZES)
def test_three_ways(cells: tuple[int, int], size: tuple[int, int], original: tuple[int, int], kind: str) -> None:
    """Regions and whole pictures give the same bits, and whole pictures those of the definition."""
    maps, placement = soft_maps(cells, kind), placement_of(size, original)
    whole = place_full(maps, placement).numpy()
    assert np.array_equal(whole, by_definition(maps, size, original))
    assert kind == "near" or 0 < whole.mean() < 1
    regions = np.stack([decode(rle) for rle in place(maps, placement)])
    assert np.array_equal(regions.astype(bool), whole)


def test_few_pixels_alone() -> None:
    """The value of single pixels, as the regions settle them near the threshold."""
    cells, size, original = SIZES[0]
    maps, placement = soft_maps(cells, "smooth", 1), placement_of(size, original)
    large = F.interpolate(maps[:, None], scale_factor=4, mode="bilinear", align_corners=False)
    values = F.interpolate(large[:, :, : size[0], : size[1]], original, mode="bilinear", align_corners=False)[0, 0]
    pixels = torch.stack((torch.randint(original[0], (300,)), torch.randint(original[1], (300,))), dim=1)
    assert torch.equal(full_size_values(maps[0], placement, pixels), values[pixels[:, 0], pixels[:, 1]])


def test_an_empty_mask() -> None:
    cells, size, original = SIZES[1]
    (rle,) = place(torch.full((1, *cells), 0.4), placement_of(size, original))
    assert not decode(rle).any()
    assert place(torch.zeros(0, *cells), placement_of(size, original)) == []
