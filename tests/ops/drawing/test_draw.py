"""Drawing: what is covered, what is left alone, and when words are left out."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from condinst.ops.drawing.draw import CROWDED, PALETTE, draw_instances, spread_colours
from condinst.ops.rle import Region, Rle, encode

GREY = np.full((200, 300, 3), 100, dtype=np.uint8)


def square(x: int, y: int, side: int) -> tuple[Rle, list[float]]:
    return encode(Region(np.ones((side, side), dtype=bool), x, y), 200, 300), [x, y, x + side, y + side]


def draw(squares: list[tuple[Rle, list[float]]], captions: list[str] | None = None) -> NDArray[np.uint8]:
    boxes = np.array([box for _, box in squares], dtype=np.float32).reshape(-1, 4)
    return draw_instances(GREY, [rle for rle, _ in squares], boxes, captions or ["thing 0.50"] * len(squares), None)


def test_small_instances_are_tinted_outlined_and_nothing_else() -> None:
    picture = draw([square(50, 40, 12)])
    changed = (picture != GREY).any(axis=2)
    inside = np.zeros((200, 300), dtype=bool)
    inside[40:52, 50:62] = True
    assert np.array_equal(changed, inside)
    assert tuple(picture[40, 55]) in PALETTE  # the edge is solid
    assert tuple(picture[46, 56]) not in PALETTE  # what lies inside shows through
    assert (GREY == 100).all()


def test_large_instances_get_words_that_stay_in_the_picture() -> None:
    words = draw([square(0, 0, 190)], ["a long caption 0.99"])
    assert not np.array_equal(words, draw([square(0, 0, 190)], ["another one 0.98"]))


def test_a_crowd_gets_no_words() -> None:
    crowd = [square(100, 50, 120)] * CROWDED
    assert np.array_equal(draw(crowd, ["a"] * CROWDED), draw(crowd, ["b"] * CROWDED))


def test_small_ones_lie_on_top() -> None:
    small, large = square(100, 100, 10), square(80, 80, 60)
    assert tuple(draw([small, large])[100, 105]) in PALETTE
    assert tuple(draw([large, small])[100, 105]) in PALETTE


def test_classes_decide_the_colour() -> None:
    squares = [square(10, 10, 12), square(50, 10, 12), square(90, 10, 12)]
    boxes = np.array([box for _, box in squares], dtype=np.float32)
    picture = draw_instances(GREY, [rle for rle, _ in squares], boxes, [""] * 3, kinds=[4, 4, 1])
    assert tuple(picture[10, 15]) == tuple(picture[10, 55]) == PALETTE[4]
    assert tuple(picture[10, 95]) == PALETTE[1]


def test_neighbours_differ() -> None:
    corner = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 20.0
    boxes = np.concatenate((corner, corner + 18), axis=1).astype(np.float32)
    colours = spread_colours(boxes)
    for row, other in itertools.combinations(range(64), 2):
        if np.abs(corner[row] - corner[other]).max() <= 20:
            assert colours[row] != colours[other]
    assert set(colours) == set(PALETTE)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3, 5)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    whole = encode(Region(np.ones(shape, dtype=bool), 0, 0), *shape)
    empty = encode(Region(np.zeros(shape, dtype=bool), 0, 0), *shape)
    box = np.array([[0, 0, shape[1], shape[0]]] * 2, dtype=np.float32)
    picture = draw_instances(np.zeros((*shape, 3), dtype=np.uint8), [whole, empty], box, ["thing 0.5"] * 2, None)
    assert picture.shape == (*shape, 3)
    assert picture.any()
