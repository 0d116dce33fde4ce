"""Drawing: which pixels change, and the rules for boxes, captions, colours, scale and the legend."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condinst.errors import UsageError
from condinst.ops.bitmaps.rle import Region, Rle, encode
from condinst.ops.drawing.draw import draw_instances, draw_overlay
from condinst.ops.drawing.palette import PALETTE, class_colours, spread_colours
from condinst.ops.drawing.style import ALPHA, BOXED, CAPTIONED, READABLE, Style

SIZE = 600, 900  # large enough not to be enlarged
GREY = np.full((*SIZE, 3), 100, dtype=np.uint8)
Square = tuple[Rle, tuple[int, int, int, int]]


def square(x: int, y: int, side: int, size: tuple[int, int] = SIZE) -> Square:
    return encode(Region(np.ones((side, side), dtype=bool), x, y), *size), (x, y, x + side, y + side)


def overlay(
    squares: list[Square],
    kinds: list[int] | None = None,
    names: dict[int, str] | None = None,
    image: NDArray[np.uint8] = GREY,
    **options: object,
) -> NDArray[np.uint8]:
    boxes = np.array([box for _, box in squares], dtype=np.float32).reshape(-1, 4)
    kinds = kinds or [0] * len(squares)
    scores = [0.5] * len(squares)
    style = Style(**options)  # type: ignore[arg-type]
    return draw_overlay(image, [rle for rle, _ in squares], boxes, kinds, scores, names or {0: "thing"}, style)


def changed(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (picture[: SIZE[0]] != GREY).any(axis=2)


def test_small_instances_are_tinted_and_outlined_only() -> None:
    picture = overlay([square(50, 40, 12)], legend=False)
    inside = np.zeros(SIZE, dtype=bool)
    inside[40:52, 50:62] = True
    assert np.array_equal(changed(picture), inside)
    assert tuple(picture[40, 55]) == PALETTE[0]  # the outline is solid
    assert picture[46, 56].tolist() == [round(100 * (1 - ALPHA) + c * ALPHA) for c in PALETTE[0]]
    assert (GREY == 100).all()


def test_captions_change_with_name_and_score() -> None:
    large = [square(100, 100, 300)]
    one, other = overlay(large, names={0: "one"}), overlay(large, names={0: "other"})
    assert not np.array_equal(one, other)
    assert one.shape == other.shape == GREY.shape  # every class has a caption, so there is no legend
    assert np.array_equal(overlay(large, labels=None, conf=True), overlay(large))
    assert not np.array_equal(overlay(large, conf=False), overlay(large))


def test_more_than_sixty_instances_get_a_legend_and_no_captions() -> None:
    crowd = [square(100, 100, 300)] * (CAPTIONED + 1)
    one, other = overlay(crowd, names={0: "one"}), overlay(crowd, names={0: "other"})
    assert np.array_equal(one[: SIZE[0]], other[: SIZE[0]])
    assert one.shape[0] > SIZE[0]
    assert not np.array_equal(one, other)


def test_boxes_are_drawn_for_all_or_for_none() -> None:
    def outside(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:  # circles leave the corners of their boxes free
        return changed(picture)[[100, 100, 100], [100, 300, 500]]

    yy, xx = np.mgrid[-75:75, -75:75]
    disc = yy**2 + xx**2 < 70**2
    discs = [(encode(Region(disc, x, 100), *SIZE), (x, 100, x + 150, 250)) for x in (100, 300, 500)]
    assert outside(overlay(discs, font_size=8, conf=False)).all()
    small = overlay([*discs, square(800, 400, 8)], boxes=False, conf=False, legend=False)
    automatic = overlay([*discs, square(800, 400, 8)], conf=False, legend=False)
    assert np.array_equal(automatic, small)  # one instance is too small for a box, so none has one
    many = [*discs, *[square(700, 400, 60)] * BOXED]
    assert np.array_equal(overlay(many), overlay(many, boxes=False))
    assert not np.array_equal(overlay(many), overlay(many, boxes=True))


def test_masks_can_be_left_out() -> None:
    assert not changed(overlay([square(50, 40, 12)], masks=False, legend=False)).any()


def test_small_ones_lie_on_top() -> None:
    small, large = square(100, 100, 10), square(80, 80, 60)
    colours = spread_colours(np.array([small[1], large[1]], dtype=np.float32))
    assert tuple(overlay([small, large])[100, 105]) == colours[0]


def test_classes_decide_the_colour_of_models_of_several_classes() -> None:
    squares = [square(10, 10, 12), square(50, 10, 12), square(90, 10, 12)]
    names = {4: "four", 1: "one", 0: "none"}
    picture = overlay(squares, [4, 4, 1], names)
    assert tuple(picture[10, 15]) == tuple(picture[10, 55]) == PALETTE[4]
    assert tuple(picture[10, 95]) == PALETTE[1]
    picture = overlay(squares, [4, 4, 1], names, color_by="instance")
    assert tuple(picture[10, 15]) != tuple(picture[10, 55])
    assert tuple(overlay(squares, color_by="class")[10, 55]) == PALETTE[0]


def test_the_legend_shows_the_colour_of_each_class_that_has_no_caption() -> None:
    squares = [square(10, 10, 12), square(100, 100, 400)]
    names = {0: "tiny", 1: "huge"}
    picture = overlay(squares, [0, 1], names)
    strip = picture[SIZE[0] :].reshape(-1, 3).tolist()
    assert list(PALETTE[0]) in strip
    assert list(PALETTE[1]) in strip
    assert overlay(squares[1:], [1], names).shape == GREY.shape
    assert overlay(squares[1:], [1], names, legend=True).shape[0] > SIZE[0]
    assert overlay(squares[1:], [1], names, labels=False, conf=False).shape[0] > SIZE[0]
    assert overlay(squares, [0, 1], names, legend=False).shape == GREY.shape
    assert overlay([], [], names, legend=True).shape == GREY.shape


@pytest.mark.parametrize(("size", "scale"), [((256, 256), 2), ((192, 256), 2), ((64, 48), 10), ((480, 640), 1)])
def test_small_pictures_are_enlarged_pixel_by_pixel(size: tuple[int, int], scale: int) -> None:
    image = np.full((*size, 3), 100, dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[5:9, 3:20] = mask[12, 30] = True
    rle = encode(Region(mask, 0, 0), *size)
    box, bare = np.array([[3, 5, 31, 13]], dtype=np.float32), Style(False, True, False, False, legend=False)
    picture = draw_overlay(image, [rle], box, [0], [0.5], {0: "a"}, bare)
    assert picture.shape == (size[0] * scale, size[1] * scale, 3)
    assert max(picture.shape) >= READABLE // 2
    assert np.array_equal((picture != 100).any(axis=2), mask.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5, 3.3])
def test_any_scale(scale: float) -> None:
    """An area that grows or shrinks with the picture, to the pixels along its edge."""
    picture = overlay([square(200, 100, 400)], scale=scale, labels=False, conf=False, boxes=False, legend=False)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    assert picture.shape == (height, width, 3)
    mask = (picture != 100).any(axis=2)
    assert mask.sum() == pytest.approx((400 * scale) ** 2, rel=0.02)
    rows = np.flatnonzero(mask.any(axis=1))
    assert (rows[0], rows[-1] + 1) == (pytest.approx(100 * scale, abs=1), pytest.approx(500 * scale, abs=1))


def test_neighbours_differ() -> None:
    corner = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 20.0
    boxes = np.concatenate((corner, corner + 18), axis=1).astype(np.float32)
    colours = spread_colours(boxes)
    for row, other in itertools.combinations(range(64), 2):
        if np.abs(corner[row] - corner[other]).max() <= 20:
            assert colours[row] != colours[other]
    assert set(colours) == set(PALETTE)


def test_eighty_classes_have_distinct_colours() -> None:
    """Distances in CIELAB by Pillow's own conversion; about 2.3 is the smallest difference that people see."""
    colours = class_colours(80)
    lab = np.asarray(Image.fromarray(np.array([colours], dtype=np.uint8)).convert("RGB"))[0].astype(float)
    weights = np.array([2, 4, 3])  # the "redmean" formula, roughly: red counts less than green
    gaps = [float(np.sqrt((weights * (a - b) ** 2).sum())) for a, b in itertools.combinations(lab, 2)]
    assert min(gaps) > 50
    assert colours[:12] == PALETTE
    assert class_colours(20) == colours[:20]
    assert class_colours(300)[256] == PALETTE[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3, 5)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    whole = encode(Region(np.ones(shape, dtype=bool), 0, 0), *shape)
    empty = encode(Region(np.zeros(shape, dtype=bool), 0, 0), *shape)
    box = np.array([[0, 0, shape[1], shape[0]]] * 2, dtype=np.float32)
    black = np.zeros((*shape, 3), dtype=np.uint8)
    assert draw_instances(black, [whole, empty], box, ["thing 0.5"] * 2, PALETTE[:2]).any()
    assert draw_overlay(black, [whole, empty], box, [0, 1], [0.5, 0.5], {0: "thing", 1: "other"}).any()


@pytest.mark.parametrize("name", ["façade", "Ячейка", "細胞", "a" * 200, "\u202eabc", "😀"])
def test_any_name_can_be_written(name: str) -> None:
    picture = overlay([square(100, 100, 400), square(10, 10, 10)], [0, 1], {0: name, 1: name})
    assert picture.shape[0] >= SIZE[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 1.5}, "alpha: expected a number from 0 to 1, got 1.5"),
        ({"alpha": float("nan")}, "alpha: expected a number from 0 to 1, got nan"),
        ({"line_width": 0}, "line_width: expected a number from 1 to 1000, got 0"),
        ({"font_size": 2}, "font_size: expected a number from 4 to 1000, got 2"),
        ({"scale": 0}, "scale: expected a number from 0.01 to 16, got 0"),
        ({"color_by": "colour"}, "color_by: expected 'class' or 'instance', got 'colour'"),
    ],
)
def test_options_out_of_range(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Style(**options)  # type: ignore[arg-type]
