"""Mosaic and copy-paste: masks pixel by pixel against whole bitmaps moved with the picture, and rules by hand."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as oracle

from condinst.data.augment.compose import LEAST_BOX, LEAST_MASK, LEAST_PIXELS, Scene, make_mosaic, paste_objects
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.data.shown import Shown, show
from condinst.data.transforms import augment
from condinst.ops.bitmaps.rle import Region
from condinst.settings.training import AugmentConfig

DATA = Path(__file__).parent.parent / "data"
SETTINGS = AugmentConfig(shorter=(150, 220), longer=400, crop=200, jitter=(0.6, 1.6), flip_vertical=0.5, turns=True)
Bitmaps = list[np.ndarray]


def whole(thing: Shown, height: int, width: int) -> np.ndarray:
    full = np.zeros((height, width), dtype=bool)
    mask, x, y = thing.region
    assert x >= 0
    assert y >= 0
    full[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return full


def tight_box(full: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = full.nonzero()
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def full_bitmap(instance: Instance, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """By pycocotools on the whole canvas, or by looking up the source pixel under every centre."""
    if isinstance(instance.shape, Polygons):
        parts = [(part @ matrix[:, :2].T + matrix[:, 2]).ravel().tolist() for part in instance.shape.parts]
        return oracle.decode(oracle.merge(oracle.frPyObjects(parts, height, width))).astype(bool)
    assert isinstance(instance.shape, RunLengths)
    y, x = np.mgrid[:height, :width] + 0.5
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    column = np.floor(inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]).astype(int) - instance.shape.x
    row = np.floor(inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]).astype(int) - instance.shape.y
    source = np.pad(oracle.decode({**instance.shape.rle}), 1)
    return source[row.clip(-1, source.shape[0] - 2) + 1, column.clip(-1, source.shape[1] - 2) + 1] > 0


def real_scenes(name: str, count: int, seed: int) -> Iterator[tuple[Scene, Bitmaps]]:
    """Augmented pictures whose pixels say (number, y, x), and the whole bitmaps of their instances, empty ones too."""
    data = read_coco(DATA / name / "train.json", DATA / name / "images")
    rng = np.random.default_rng(seed)
    for number in range(count):
        sample = data.samples[rng.integers(len(data.samples))]
        image, matrix = augment(np.zeros((sample.height, sample.width, 3), dtype=np.uint8), SETTINGS, rng)
        height, width = image.shape[:2]
        instances = [one for one in sample.instances if not one.crowd]
        bitmaps = [full_bitmap(instance, matrix, height, width) for instance in instances]
        things = tuple(show(sample, matrix, height, width))
        assert len(things) == sum(bitmap.any() for bitmap in bitmaps)
        y, x = np.mgrid[:height, :width]
        yield Scene(np.stack((np.full_like(y, number), y, x), 2).astype(np.uint8), things, (sample.path,)), bitmaps


def moved(bitmap: np.ndarray, number: int, image: np.ndarray) -> np.ndarray:
    """Where the canvas shows a pixel of the bitmap of picture `number`."""
    mine = image[:, :, 0] == number
    full = np.zeros(mine.shape, dtype=bool)
    full[mine] = bitmap[image[mine][:, 1], image[mine][:, 2]]
    return full


def check(thing: Shown, full: np.ndarray, source: np.ndarray) -> None:
    """The thing is that bitmap; its box is tight where the picture was cut out of it; its centroid is the mean."""
    assert np.array_equal(whole(thing, *full.shape), full)
    ys, xs = full.nonzero()
    assert thing.centroid == pytest.approx((xs.mean(), ys.mean()))
    x0, y0, x1, y1 = thing.box
    assert 0 <= x0 < x1 <= full.shape[1]
    assert 0 <= y0 < y1 <= full.shape[0]
    if full.sum() < source.sum():
        assert thing.box == tight_box(full)


def is_left(full: np.ndarray, source: np.ndarray) -> bool:
    """Whether an object that shows so in a composed picture is remembered."""
    cut = full.sum() < source.sum()
    return bool(full.any() and not (cut and full.sum() < max(LEAST_MASK * source.sum(), LEAST_PIXELS)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["coco_mini", "facade", "nuclei"])
def test_mosaic_against_whole_bitmaps(name: str, seed: int) -> None:
    scenes = list(real_scenes(name, 4, seed))
    canvas = make_mosaic([scene for scene, _ in scenes], 180, 160, np.random.default_rng(seed))
    assert canvas.image.shape == (180, 160, 3)
    assert canvas.paths == tuple(scene.paths[0] for scene, _ in scenes)
    wanted = [
        (moved(bitmap, number, canvas.image), bitmap)
        for number, (_, bitmaps) in enumerate(scenes)
        for bitmap in bitmaps
    ]
    left = [(full, source) for full, source in wanted if is_left(full, source)]
    assert len(canvas.things) == len(left)
    for thing, (full, source) in zip(canvas.things, left, strict=True):
        check(thing, full, source)


def test_mosaics_show_all_four_around_the_middle() -> None:
    """Larger pictures fill the canvas; the point where they meet moves."""
    scenes = [scene for scene, _ in real_scenes("facade", 4, 0)]
    large = [Scene(np.full((200, 200, 3), 50 * number, dtype=np.uint8), (), ()) for number in range(4)]
    meeting = set()
    for seed in range(40):
        image = make_mosaic(large, 120, 80, np.random.default_rng(seed)).image[:, :, 0]
        y, x = int((image[:, 0] == 0).sum()), int((image[0] == 0).sum())
        expected = np.repeat(np.repeat([[0, 50], [100, 150]], [y, 120 - y], 0), [x, 80 - x], 1)
        assert np.array_equal(image, expected)
        assert 30 <= y <= 90
        assert 20 <= x <= 60
        meeting.add((y, x))
    assert len(meeting) > 30
    assert len(scenes) == 4


def test_small_pictures_of_a_mosaic_touch_the_meeting_point() -> None:
    small = [Scene(np.full((10, 8, 3), number, dtype=np.uint8), (), ()) for number in range(4)]
    image = make_mosaic(small, 100, 100, np.random.default_rng(0)).image[:, :, 0]
    ys, xs = (image < 4).nonzero()
    y, x = int(ys.min()), int(xs.min())
    assert len(ys) == 20 * 16
    assert np.array_equal(image[y : y + 20, x : x + 16], np.repeat(np.repeat([[0, 1], [2, 3]], 10, 0), 8, 1))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["coco_mini", "facade", "nuclei"])
def test_pasted_objects_against_whole_bitmaps(name: str, seed: int) -> None:
    (base, behind), (other, sources) = real_scenes(name, 2, seed)
    both = paste_objects(base, other, np.random.default_rng(seed))
    assert both.image.shape == base.image.shape
    front = both.image[:, :, 0] == 1
    # what is not pasted is untouched, and keeps its place
    assert np.array_equal(both.image[~front], base.image[~front])
    wanted = [(moved(bitmap, 0, both.image), bitmap) for bitmap in behind]
    left = [(full, source) for full, source in wanted if is_left(full, source)]
    kept, pasted = both.things[: len(left)], both.things[len(left) :]
    for thing, (full, source) in zip(kept, left, strict=True):
        check(thing, full, source)
    assert bool(pasted) == front.any()
    assert pasted or name != "facade"
    assert both.paths == (*base.paths, *(other.paths if pasted else ()))
    covered = np.zeros_like(front)
    for thing in pasted:
        full = whole(thing, *front.shape)
        matches = [source for source in sources if np.array_equal(moved(source, 1, both.image), full)]
        assert matches
        check(thing, full, min(matches, key=np.count_nonzero))  # under it may lie a larger one, not pasted
        covered |= full
    assert np.array_equal(covered, front)


def test_some_of_the_objects_are_pasted() -> None:
    """From one to all of them; each is as likely as the others."""
    mask = np.ones((4, 4), dtype=np.bool_)
    things = tuple(
        Shown(label, (x, 2, x + 4, 6), Region(mask, x, 2), (x + 1.5, 3.5), True) for label, x in enumerate((0, 10, 20))
    )
    empty, other = (Scene(np.zeros((20, 30, 3), dtype=np.uint8), shown, ()) for shown in ((), things))
    drawn = [
        tuple(thing.label for thing in paste_objects(empty, other, np.random.default_rng(seed)).things)
        for seed in range(300)
    ]
    assert set(drawn) == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    counts = [sum(label in labels for labels in drawn) for label in range(3)]
    assert max(counts) - min(counts) < 60


def boxed(x0: float, y0: float, x1: float, y1: float, label: int = 1) -> Shown:
    sample = Sample(Path("a"), 1, 40, 30, (Instance(label, (x0, y0, x1, y1), None, False, 1),))
    return show(sample, np.eye(2, 3), 30, 40)[0]


def square(x: int, y: int, side: int, label: int = 0) -> Shown:
    mask = np.ones((side, side), dtype=np.bool_)
    centre = x + (side - 1) / 2, y + (side - 1) / 2
    return Shown(label, (x, y, x + side, y + side), Region(mask, x, y), centre, True)


def scene_of(*things: Shown, height: int = 30, width: int = 40, colour: int = 0) -> Scene:
    return Scene(np.full((height, width, 3), colour, dtype=np.uint8), things, (Path(f"{colour}"),))


def paste(behind: Shown, front: Shown) -> tuple[Shown, ...]:
    """What is left of the thing behind."""
    both = paste_objects(scene_of(behind), scene_of(front, colour=9), np.random.default_rng(0))
    assert both.things[-1] == front
    return both.things[:-1]


def test_boxes_alone_under_pasted_objects() -> None:
    """A covered side moves the box, a covered corner does not; more than half covered and it is forgotten."""
    thing = boxed(10.5, 5, 20.25, 15)  # pixels 10 to 20 across, 5 to 14 down
    (corner,) = paste(thing, square(7, 2, 6))
    assert corner.box == thing.box
    assert np.array_equal(corner.region.bitmap, thing.region.bitmap)
    (side,) = paste(thing, square(2, 0, 12))  # hides columns 10 … 13 of rows 5 … 11
    assert side.box == thing.box
    (moved_side,) = paste(thing, square(0, 2, 14))  # columns 10 … 13 of rows 5 … 15: the whole left part
    assert moved_side.box == (14, 5, 20.25, 15)
    assert moved_side.centroid == (17.125, 10)
    assert not moved_side.has_mask
    assert (moved_side.region.x, moved_side.region.bitmap.shape) == (14, (11, 7))
    assert moved_side.region.bitmap.all()
    assert paste(thing, square(2, 0, 16)) == ()  # 8 of 11 columns
    assert LEAST_BOX == 0.5


def test_masks_under_pasted_objects() -> None:
    thing = square(10, 5, 10)
    (corner,) = paste(thing, square(0, 0, 12))
    assert corner.box == (10, 5, 20, 15)  # an L is left
    assert corner.region.bitmap.sum() == 100 - 2 * 7
    assert corner.centroid == pytest.approx(((100 * 14.5 - 14 * 10.5) / 86, (100 * 9.5 - 14 * 8) / 86))
    (strip,) = paste(thing, square(0, 0, 19))  # column 19, and row 15 is none of it
    assert strip.box == (19, 5, 20, 15)
    assert strip.centroid == (19, 9.5)
    assert paste(thing, square(5, 0, 20)) == ()


def test_boxes_alone_are_never_pasted() -> None:
    base = scene_of(square(10, 5, 10))
    assert paste_objects(base, scene_of(boxed(0, 0, 9, 9), colour=9), np.random.default_rng(0)) is base
    for seed in range(20):
        mixed = scene_of(boxed(0, 0, 9, 9), square(25, 20, 6, label=2), boxed(12, 2, 30, 20), colour=9)
        both = paste_objects(base, mixed, np.random.default_rng(seed))
        assert [(thing.label, thing.has_mask) for thing in both.things] == [(0, True), (2, True)]
        assert (both.image == 9).all(2).sum() == 36


def test_mosaic_cuts_boxes_alone_as_crops_do() -> None:
    """Their share in the picture is what says how much is left."""
    scenes = [scene_of(boxed(1.5, 2, 39, 28.5, label=number)) for number in range(4)]
    for seed in range(10):
        canvas = make_mosaic(scenes, 30, 40, np.random.default_rng(seed))
        assert not any(thing.has_mask for thing in canvas.things)
        for thing in canvas.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= 40
            assert 0 <= y0 < y1 <= 30
            assert (x1 - x0) * (y1 - y0) >= LEAST_MASK * 37.5 * 26.5
            assert thing.region.bitmap.all()


@pytest.mark.parametrize(("side", "left", "count"), [(10, 9, 0), (10, 10, 1), (3, 3, 0), (2, 4, 1), (30, 89, 0)])
def test_remnants_are_forgotten(side: int, left: int, count: int) -> None:
    """Less than a tenth of the pixels, or less than four of them."""
    assert (LEAST_MASK, LEAST_PIXELS) == (0.1, 4)
    over = np.ones((side, side), dtype=np.bool_)
    over.flat[:left] = 0
    ys, xs = over.nonzero()
    centroid = (float(xs.mean()), float(ys.mean())) if len(xs) else (0.0, 0.0)
    front = Shown(1, (0, 0, side, side), Region(over, 0, 0), centroid, True)
    both = paste_objects(scene_of(square(0, 0, side)), scene_of(front), np.random.default_rng(0))
    assert len(both.things) == 1 + count


@pytest.mark.parametrize("seed", range(5))
def test_flipped_pictures_give_flipped_pastes(seed: int) -> None:
    """Both pictures mirrored, and the same objects drawn."""
    (base, _), (other, _) = real_scenes("nuclei", 2, seed)

    def flip(scene: Scene) -> Scene:
        width = scene.image.shape[1]
        things = [
            thing._replace(
                box=(width - thing.box[2], thing.box[1], width - thing.box[0], thing.box[3]),
                region=Region(
                    thing.region.bitmap[:, ::-1], width - thing.region.x - thing.region.bitmap.shape[1], thing.region.y
                ),
                centroid=(width - 1 - thing.centroid[0], thing.centroid[1]),
            )
            for thing in scene.things
        ]
        return Scene(scene.image[:, ::-1], tuple(things), scene.paths)

    side = min(*base.image.shape[:2], *other.image.shape[:2])
    base, other = (make_same(scene, side) for scene in (base, other))
    straight = paste_objects(base, other, np.random.default_rng(seed))
    turned = paste_objects(flip(base), flip(other), np.random.default_rng(seed))
    assert np.array_equal(turned.image, straight.image[:, ::-1])
    for thing, mirrored in zip(flip(straight).things, turned.things, strict=True):
        assert np.array_equal(whole(thing, side, side), whole(mirrored, side, side))
        assert thing.box == pytest.approx(mirrored.box)
        assert thing.centroid == pytest.approx(mirrored.centroid)


def make_same(scene: Scene, side: int) -> Scene:
    """The objects inside its top left square of that side."""
    things = [thing for thing in scene.things if whole(thing, *scene.image.shape[:2])[side:].sum() == 0]
    things = [thing for thing in things if whole(thing, *scene.image.shape[:2])[:, side:].sum() == 0]
    clipped = [thing._replace(box=tuple(min(number, float(side)) for number in thing.box)) for thing in things]
    return Scene(scene.image[:side, :side], tuple(clipped), scene.paths)
