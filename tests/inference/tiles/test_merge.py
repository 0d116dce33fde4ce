"""Joined tiles of a perfect detector give the objects back, pixel by pixel."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from condinst.inference.tiles.merge import Find, Merger
from condinst.inference.tiles.plan import Window, overlap_pixels, plan_windows
from condinst.ops.bitmaps.rle import Region, tighten

Labels = NDArray[np.int64]


def draw_objects(height: int, width: int, seed: int, count: int, largest: int) -> Labels:
    """Ellipses, every third with a hole, that may touch: 0 is background, n the n-th object."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), dtype=np.int64)
    for number in range(1, count + 1):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(4, largest, 2)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
        body = (inside <= 1) & ((inside > 0.2) | (number % 3 > 0)) & (labels == 0)
        labels[body] = number
    return labels


def see(labels: Labels, window: Window, height: int, width: int) -> list[Find]:
    """What a perfect detector finds in a window."""
    part = labels[window.y : window.bottom, window.x : window.right]
    finds = []
    for number in np.unique(part[part > 0]):
        region = tighten(Region(part == number, window.x, window.y))
        assert region is not None
        rows, columns = region.bitmap.shape
        box = (region.x, region.y, region.x + columns, region.y + rows)
        finds.append(Find(region, tuple(map(float, box)), 0.9 - 0.001 * int(number % 7), 0))
    return finds


def merge(labels: Labels, tile: int, shared: int) -> list[Find]:
    height, width = labels.shape
    merger, found = Merger((height, width), 2), []
    rows = plan_windows(height, width, tile, shared)
    for index, row in enumerate(rows):
        for window in row:
            merger.add(window, see(labels, window, height, width))
        found += list(merger.close(rows[index + 1][0].y if index + 1 < len(rows) else None))
    assert not merger.open
    return found


def whole(find: Find, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=np.bool_)
    (bitmap, x, y) = find.region
    mask[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return mask


@pytest.mark.parametrize(("largest", "shared"), [(12, 32), (12, 40), (70, 32)])
@pytest.mark.parametrize("seed", range(3))
def test_every_object_once_pixel_by_pixel(largest: int, shared: int, seed: int) -> None:
    """Small objects fit into the band, large ones reach over several tiles."""
    labels = draw_objects(300, 420, seed, 120 if largest < 20 else 12, largest)
    # a tile cannot know of the further parts of an object in several parts
    numbers = [
        number
        for number in np.unique(labels[labels > 0])
        if (labels == number).sum() > 30 and ndimage.label(labels == number, np.ones((3, 3)))[1] == 1
    ]
    assert len(numbers) > 5
    found = merge(labels, 128, shared)
    by_number = {int(labels[whole(find, labels.shape)].max()): find for find in found}
    for number in numbers:
        same = [find for find in found if (whole(find, labels.shape) & (labels == number)).sum() > 15]
        assert len(same) == 1, f"object {number} is found {len(same)} times"
        assert np.array_equal(whole(same[0], labels.shape), labels == number)
        rows, columns = np.nonzero(labels == number)
        assert by_number[int(number)].box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def find(x: int, y: int, width: int, height: int, score: float = 0.9, label: int = 0) -> Find:
    box = (float(x), float(y), float(x + width), float(y + height))
    return Find(Region(np.ones((height, width), dtype=np.bool_), x, y), box, score, label)


LEFT, RIGHT = Window(0, 0, 100, 100), Window(80, 0, 100, 100)


def both(left: list[Find], right: list[Find]) -> list[Find]:
    merger = Merger((100, 180), 2)
    merger.add(LEFT, left)
    merger.add(RIGHT, right)
    return list(merger.close())


def test_whole_in_both_tiles_keeps_the_better() -> None:
    (kept,) = both([find(84, 10, 10, 10, 0.7)], [find(84, 10, 10, 11, 0.8)])
    assert kept.score == 0.8
    assert kept.region.bitmap.shape == (11, 10)


def test_a_cut_find_yields_to_the_whole_one() -> None:
    (kept,) = both([find(90, 10, 10, 10, 0.95)], [find(90, 10, 20, 10, 0.6)])
    assert kept.score == 0.6
    assert kept.region.bitmap.shape == (10, 20)


def test_cut_in_both_tiles_is_joined() -> None:
    (kept,) = both([find(50, 10, 50, 10, 0.6)], [find(80, 10, 40, 10, 0.7)])
    assert kept.score == 0.7
    assert kept.box == (50, 10, 120, 20)
    assert kept.region.bitmap.all()
    assert kept.region.bitmap.shape == (10, 70)


def test_nothing_is_lost_that_only_one_tile_has() -> None:
    finds = both([find(90, 10, 10, 10)], [find(82, 50, 10, 10), find(150, 10, 10, 10)])
    assert len(finds) == 3


def test_other_classes_and_neighbours_stay_apart() -> None:
    assert len(both([find(90, 10, 10, 10, label=0)], [find(90, 10, 20, 10, label=1)])) == 2
    # two objects one above the other, both cut by both tiles
    assert len(both([find(50, 10, 50, 10), find(50, 20, 50, 10)], [find(80, 10, 40, 10), find(80, 20, 40, 10)])) == 2


def test_a_whole_find_at_the_border_of_the_picture_is_not_cut() -> None:
    (kept,) = both([find(0, 0, 10, 10)], [])
    assert kept.region.bitmap.shape == (10, 10)


def test_windows_cover_the_picture_evenly() -> None:
    for height, width, tile, shared in (
        (1000, 700, 256, 51),
        (256, 256, 256, 51),
        (100, 3000, 256, 0),
        (257, 40, 256, 128),
    ):
        seen = np.zeros((height, width), dtype=np.int64)
        rows = plan_windows(height, width, tile, shared)
        for window in (one for row in rows for one in row):
            assert (window.width, window.height) == (min(tile, width), min(tile, height))
            assert window.right <= width
            assert window.bottom <= height
            seen[window.y : window.bottom, window.x : window.right] += 1
        assert seen.min() == 1
        for first, second in itertools.pairwise(rows[0]):
            assert first.right - second.x >= shared
        for above, below in itertools.pairwise(rows):
            assert above[0].bottom - below[0].y >= shared


@pytest.mark.parametrize(
    ("tile", "overlap", "words"),
    [(20, 0.2, "at least 32"), (64, 0.6, "0 to 0.5"), (64, 40, "half of its 64"), (64, -1, "0 to 0.5")],
)
def test_overlaps_that_do_not_fit(tile: int, overlap: float, words: str) -> None:
    with pytest.raises(Exception, match=words):
        overlap_pixels(tile, overlap)


def test_overlap_as_a_part_or_in_pixels() -> None:
    assert overlap_pixels(100, 0.2) == overlap_pixels(100, 20) == 20
