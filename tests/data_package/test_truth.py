"""Drawn truth against hand-worked arrays and pycocotools on the full canvas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from torch import Tensor

from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.data.transforms import augment
from condinst.data.truth import draw_truth
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.settings.training import AugmentConfig
from condinst.structures import Truth

DATA = Path(__file__).parent.parent / "data"
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def sample_of(*instances: Instance, width: int = 16, height: int = 12) -> Sample:
    return Sample(Path("picture.png"), 1, width, height, instances)


def bitmap_of(mask: np.ndarray, label: int = 0) -> Instance:
    """An instance from a full-size mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Instance(label, (x0, y0, x1, y1), RunLengths.of(mask[y0:y1, x0:x1].astype(np.uint8), x0, y0), False, 1)


def polygon_of(*parts: np.ndarray, label: int = 0) -> Instance:
    points = np.concatenate(parts)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return Instance(label, (x0, y0, x1, y1), Polygons(tuple(np.asarray(p, dtype=np.float64) for p in parts)), False, 1)


def coco_raster(parts: list[np.ndarray], height: int, width: int) -> np.ndarray:
    return oracle.decode(oracle.merge(oracle.frPyObjects([p.ravel().tolist() for p in parts], height, width))).astype(
        bool
    )


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def rectangle(x0: int, y0: int, x1: int, y1: int, height: int = 12, width: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def whole_masks(truth: Truth, height: int, width: int, stride: int) -> Tensor:
    """All masks, (M, ceil(height / stride), ceil(width / stride))."""
    every, size = torch.arange(len(truth.mask_places)), (-(-height // stride), -(-width // stride))
    return unpack(truth.mask_pixels, truth.mask_places, every, size)


def test_by_hand() -> None:
    truth = draw_truth(sample_of(bitmap_of(rectangle(5, 2, 11, 7), label=3)), IDENTITY, 12, 16, 4)
    assert truth.boxes.tolist() == [[5, 2, 11, 7]]
    assert truth.labels.tolist() == [3]
    assert truth.centroids.tolist() == [[7.5, 4]]  # mean of 5…10 and of 2…6
    # pixels 2, 6, 10, 14 across and 2, 6, 10 down
    assert whole_masks(truth, 12, 16, 4).int().tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]
    # pixels 4 and 12 across, 4 down: the rectangle starts at 5
    assert truth.semantic.tolist() == [[-1, -1], [-1, -1]]


def test_centroid_is_the_masks_not_the_boxs() -> None:
    mask = rectangle(0, 0, 8, 2)
    mask[2:6, 0:2] = True  # an L: 16 pixels centred at (3.5, 0.5) and 8 at (0.5, 3.5)
    truth = draw_truth(sample_of(bitmap_of(mask)), IDENTITY, 12, 16, 2)
    assert truth.centroids.tolist() == [[(16 * 3.5 + 8 * 0.5) / 24, (16 * 0.5 + 8 * 3.5) / 24]]


def test_semantic_overlap_goes_to_the_smallest_mask() -> None:
    large, small = bitmap_of(rectangle(0, 0, 16, 12), label=0), bitmap_of(rectangle(10, 2, 15, 6), label=1)
    for order in ((large, small), (small, large)):
        truth = draw_truth(sample_of(*order), IDENTITY, 12, 16, 4)
        assert truth.semantic.tolist() == [[0, 1], [-1, -1]]  # pixels (4, 4), (12, 4); row 12 is outside


@pytest.mark.parametrize(("side", "expected"), [(16, 4), (17, 5), (18, 5), (19, 5), (20, 5)])
def test_sides_that_the_stride_does_not_divide(side: int, expected: int) -> None:
    whole = bitmap_of(np.ones((side, side), dtype=bool))
    truth = draw_truth(sample_of(whole, width=side, height=side), IDENTITY, side, side, 4)
    masks = whole_masks(truth, side, side, 4)[0]
    inside = np.arange(expected) * 4 + 2 < side  # the last sample may lie in the padding
    assert np.array_equal(masks.numpy(), inside[:, None] & inside)


def test_no_instances() -> None:
    truth = draw_truth(sample_of(), IDENTITY, 12, 16, 4)
    assert [tuple(part.shape) for part in truth] == [(0, 4), (0,), (0, 2), (0,), (0, 4), (2, 2), (0,)]
    assert (truth.semantic == -1).all()


def test_crowds_and_what_a_crop_hides_are_left_out() -> None:
    crowd = Instance(0, (0, 0, 16, 12), None, True, 2)
    left = bitmap_of(rectangle(0, 0, 4, 4), label=1)
    cut = polygon_of(np.array([[6.0, 1], [12, 1], [12, 5], [6, 5]]), label=2)
    shifted = np.array([[1.0, 0, -8], [0, 1, 0]])  # a crop from x = 8
    truth = draw_truth(sample_of(crowd, left, cut), shifted, 12, 8, 2)
    assert truth.labels.tolist() == [2]
    assert truth.boxes.tolist() == [[0, 1, 4, 5]]  # the drawn mask's tight box
    assert truth.centroids.tolist() == [[1.5, 2.5]]


def test_uncut_boxes_stay_as_annotated_and_inside_the_image() -> None:
    mask = bitmap_of(rectangle(0, 0, 4, 4))
    off = Instance(0, (-0.25, 0.5, 4.5, 4.25), mask.shape, False, 1)
    assert draw_truth(sample_of(off), IDENTITY, 12, 16, 2).boxes.tolist() == [[0, 0.5, 4.5, 4.25]]


def test_a_box_beside_the_image_gives_way_to_the_mask() -> None:
    """Less than a pixel out, so no crop, but nothing of it is in the image."""
    mask = bitmap_of(rectangle(0, 3, 4, 6))
    off = Instance(0, (-0.9, 2, -0.2, 9), mask.shape, False, 1)
    assert draw_truth(sample_of(off), IDENTITY, 12, 16, 2).boxes.tolist() == [[0, 3, 4, 6]]


def boxed(*box: float, label: int = 0) -> Instance:
    return Instance(label, box, None, False, 7)  # type: ignore[arg-type]


def test_a_box_alone_by_hand() -> None:
    """The filled box from the pixel of one corner to that of the other, (5, 2) to (10, 6), and the box's own centre."""
    drawn = bitmap_of(rectangle(0, 0, 3, 3), label=2)
    truth = draw_truth(sample_of(boxed(5.5, 2, 10.25, 6.75, label=1), drawn), IDENTITY, 12, 16, 2)
    assert truth.has_mask.tolist() == [False, True]
    assert truth.labels.tolist() == [1, 2]
    assert truth.boxes[0].tolist() == [5.5, 2, 10.25, 6.75]
    assert truth.centroids[0].tolist() == [7.875, 4.375]
    expected = rectangle(5, 2, 11, 7)[1::2, 1::2]  # pixels 5, 7, 9 across and 3, 5 down
    assert expected.sum() == 6
    assert np.array_equal(whole_masks(truth, 12, 16, 2)[0].numpy(), expected)
    assert (truth.semantic == -1).all()  # pixel (4, 4) is in neither, (12, 4) neither


def test_boxes_alone_are_not_in_the_semantic_map() -> None:
    truth = draw_truth(sample_of(boxed(0, 0, 16, 12), bitmap_of(rectangle(10, 2, 15, 6), label=1)), IDENTITY, 12, 16, 4)
    assert truth.semantic.tolist() == [[-1, 1], [-1, -1]]


def test_boxes_alone_that_a_crop_cuts_or_hides() -> None:
    """Cut to what shows; a whole number's pixel is drawn only where it lies in the picture."""
    shifted = np.array([[1.0, 0, -8], [0, 1, 0]])
    hidden = (boxed(0, 0, 8, 5), boxed(9, 12, 12, 15), boxed(16, 0, 20, 5))
    truth = draw_truth(sample_of(*hidden, boxed(4, 8, 40, 40, label=2)), shifted, 12, 8, 2)
    assert truth.labels.tolist() == [2]
    assert truth.boxes.tolist() == [[0, 8, 8, 12]]
    assert truth.centroids.tolist() == [[4, 10]]
    assert np.array_equal(whole_masks(truth, 12, 8, 2)[0].numpy(), rectangle(0, 8, 8, 12, 12, 8)[1::2, 1::2])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-20, 60, width=32), min_size=4, max_size=4), st.sampled_from([1, 2, 4, 8]))
def test_boxes_alone_anywhere(sides: list[float], stride: int) -> None:
    """A drawn box holds its pixels' centres, and none further than a pixel out; every stride fits its map."""
    (x0, x1), (y0, y1) = sorted(sides[:2]), sorted(sides[2:])
    truth = draw_truth(sample_of(boxed(x0, y0, x1, y1)), IDENTITY, 23, 30, stride)
    shows = max(x0, 0) < min(x1, 30) and max(y0, 0) < min(y1, 23)
    assert len(truth.labels) == shows
    rows, columns = (np.arange(-(-side // stride)) * stride + stride // 2 for side in (23, 30))
    for mask in whole_masks(truth, 23, 30, stride).numpy():
        ys, xs = (rows[:, None] + 0.5, columns + 0.5)
        inside = (xs > x0) & (xs < x1) & (ys > y0) & (ys < y1) & (xs < 30) & (ys < 23)
        near = (xs > x0 - 1) & (xs < x1 + 1) & (ys > y0 - 1) & (ys < y1 + 1) & (xs < 30) & (ys < 23)
        assert mask[inside].all()
        assert not mask[~near].any()


@pytest.mark.parametrize("seed", range(8))
def test_boxes_alone_follow_the_image(seed: int) -> None:
    """Flipped, turned, resized and cropped like the picture of the filled box."""
    mask = rectangle(12, 9, 40, 30, 40, 56)
    config = AugmentConfig(shorter=(50, 71), longer=200, jitter=(0.8, 1.6), crop=48, flip_vertical=0.5, turns=True)
    image, matrix = augment(
        np.repeat(mask[:, :, None], 3, 2).astype(np.uint8) * 255, config, np.random.default_rng(seed)
    )
    truth = draw_truth(sample_of(boxed(12, 9, 40, 30)), matrix, *image.shape[:2], 1)
    drawn, shown = full_masks(truth, image)[0], image[:, :, 0] >= 128
    assert (drawn & shown).sum() / (drawn | shown).sum() > 0.9


points = st.lists(st.tuples(*[st.floats(-30, 70, width=32)] * 2), min_size=3, max_size=9)


@settings(max_examples=200, deadline=None)
@given(st.lists(points, min_size=1, max_size=3), st.sampled_from([2, 4, 8]), st.sampled_from([0.5, 1.0, 1.7]))
def test_polygons_equal_pycocotools_on_the_full_canvas(
    parts: list[list[tuple[float, float]]], stride: int, zoom: float
) -> None:
    arrays = [np.array(part, dtype=np.float64) for part in parts]
    matrix = np.array([[-zoom, 0, 40], [0, zoom, -3]])
    full = coco_raster([moved(part, matrix) for part in arrays], 37, 41)
    truth = draw_truth(sample_of(polygon_of(*arrays)), matrix, 37, 41, stride)
    if not full.any():
        assert len(truth.labels) == 0
        return
    sampled = full[stride // 2 :: stride, stride // 2 :: stride]
    mask = whole_masks(truth, 37, 41, stride)[0].numpy()
    assert np.array_equal(mask[: sampled.shape[0], : sampled.shape[1]], sampled)
    ys, xs = np.nonzero(full)
    assert np.allclose(truth.centroids[0].numpy(), [xs.mean(), ys.mean()], atol=1e-4)


@pytest.mark.parametrize("name", ["coco_mini", "mushrooms"])
def test_real_polygons_equal_pycocotools(name: str) -> None:
    data = read_coco(DATA / name / "train.json", DATA / name / "images")
    matrix = np.array([[0, 1.37, -20], [-1.37, 0, 700]])
    drawn = 0
    for sample in data.samples:
        truth = draw_truth(sample, matrix, 480, 512, 4)
        shown = []
        for instance in sample.instances:
            if isinstance(instance.shape, Polygons):
                full = coco_raster([moved(part, matrix) for part in instance.shape.parts], 480, 512)
                shown += [full[2::4, 2::4]] if full.any() else []
        assert np.array_equal(whole_masks(truth, 480, 512, 4).numpy(), np.array(shown).reshape(-1, 120, 128))
        drawn += len(shown)
    assert drawn > 10


def full_masks(truth: Truth, image: np.ndarray) -> np.ndarray:
    return whole_masks(truth, *image.shape[:2], 1).numpy()


def blob(height: int, width: int) -> np.ndarray:
    """A shape no flip or turn maps onto itself."""
    y, x = np.mgrid[:height, :width]
    return ((x - 20) ** 2 / 300 + (y - 15) ** 2 / 80 < 1) | ((x > 22) & (x < 40) & (y > 15) & (y < 33) & (x + y < 64))


@pytest.mark.parametrize("seed", range(24))
def test_flips_turns_and_crops_move_mask_and_image_alike(seed: int) -> None:
    mask = blob(40, 56)
    config = AugmentConfig(shorter=(40,), longer=100, crop=36, flip_vertical=0.5, turns=True)
    image, matrix = augment(
        np.repeat(mask[:, :, None], 3, 2).astype(np.uint8) * 255, config, np.random.default_rng(seed)
    )
    truth = draw_truth(sample_of(bitmap_of(mask)), matrix, *image.shape[:2], 1)
    assert np.array_equal(full_masks(truth, image)[0], image[:, :, 0] == 255)
    y, x = np.nonzero(image[:, :, 0])
    assert truth.centroids[0].tolist() == pytest.approx([x.mean(), y.mean()])


@pytest.mark.parametrize("seed", range(8))
def test_resized_mask_follows_the_resized_image(seed: int) -> None:
    mask = blob(40, 56)
    config = AugmentConfig(shorter=(50, 71), longer=200, jitter=(0.8, 1.6), crop=48, flip_vertical=0.5, turns=True)
    image, matrix = augment(
        np.repeat(mask[:, :, None], 3, 2).astype(np.uint8) * 255, config, np.random.default_rng(seed)
    )
    truth = draw_truth(sample_of(bitmap_of(mask)), matrix, *image.shape[:2], 1)
    drawn, shown = full_masks(truth, image)[0], image[:, :, 0] >= 128
    # bilinear and nearest edges differ by a pixel here and there, never by a shift
    assert (drawn & shown).sum() / (drawn | shown).sum() > 0.94
