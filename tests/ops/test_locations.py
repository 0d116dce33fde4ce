"""The grid of locations of a level, and the order of flattened maps."""

import torch

from condinst.ops.locations import flatten_level, flatten_levels, level_locations


def test_by_hand() -> None:
    assert level_locations(2, 3, 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert level_locations(1, 2, 128).tolist() == [[64, 64], [192, 64]]
    assert level_locations(0, 5, 8).shape == (0, 2)


def test_flattened_maps_follow_the_locations() -> None:
    """Maps that hold each cell's own position come out as the list of positions, level after level."""
    sizes = {8: (3, 5), 16: (2, 3)}
    levels = []
    for stride, (height, width) in sizes.items():
        x = (torch.arange(width) * stride + stride // 2).expand(height, width)
        y = (torch.arange(height) * stride + stride // 2)[:, None].expand(height, width)
        image = torch.stack((x, y)).float()
        levels.append(torch.stack((image, -image)))
    expected = torch.cat([level_locations(*size, stride) for stride, size in sizes.items()])
    flat = flatten_levels(tuple(levels))
    assert torch.equal(flat, torch.stack((expected, -expected)))
    assert torch.equal(flatten_level(levels[0]), flat[:, :15])
