"""What the doctor's parts find, against brute force and other libraries' answers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as oracle

from condinst.data.findings import Finding
from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.doctor.checks.copies import copies_between, copies_within, fingerprint, sure_copy
from condinst.doctor.checks.duplicates import find_duplicates
from condinst.doctor.checks.shapes import box_iou, check_shapes, crossing, draw, excess
from condinst.doctor.repair import repair_sample
from condinst.errors import DataError

DATA = Path(__file__).parent.parent / "data"
HEIGHT, WIDTH = 40, 50


def block(x: int, y: int, width: int, height: int, number: int, label: int = 0) -> Instance:
    """A filled rectangle as a mask."""
    shape = RunLengths.of(np.ones((height, width), dtype=np.bool_), x, y)
    return Instance(label, (x, y, x + width, y + height), shape, False, number)


def sample(*instances: Instance) -> Sample:
    return Sample(Path("a.png"), 1, WIDTH, HEIGHT, instances)


BLOCKS = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(20, 30), st.integers(20, 30), st.integers(0, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(BLOCKS, max_size=12))
def test_duplicates_against_every_pair(blocks: list[tuple[int, int, int, int, int]]) -> None:
    """Each repetition repeats an object that is none; no two of those left are the same."""
    made = sample(*(block(x, y, w, h, i, label) for i, (x, y, w, h, label) in enumerate(blocks)))
    drawn = draw(made)
    found = find_duplicates(made, drawn)

    def same(a: int, b: int) -> bool:
        if made.instances[a].label != made.instances[b].label:
            return False
        pair = [{"size": it.rle["size"], "counts": it.rle["counts"].encode()} for it in (drawn[a], drawn[b]) if it.rle]
        return float(oracle.iou(pair[:1], pair[1:], [0])[0][0]) > 0.95

    for later, earlier in found.items():
        assert earlier < later
        assert earlier not in found
        assert same(later, earlier)
    left = [i for i in range(len(blocks)) if i not in found]
    assert not [(a, b) for a in left for b in left if a < b and same(a, b)]


def test_boxes_without_masks_and_crowds() -> None:
    box = Instance(0, (5.0, 5.0, 25.0, 25.0), None, False, 1)
    masked, other = block(5, 5, 20, 20, 2), block(5, 5, 20, 20, 3, label=1)
    crowd = Instance(0, masked.box, masked.shape, True, 4)
    made = sample(box, masked, other, crowd)
    assert find_duplicates(made, draw(made)) == {1: 0}


def test_ten_thousand_of_the_same() -> None:
    same = draw(sample(block(5, 5, 20, 20, 0)))[0]
    made = sample(*(block(5, 5, 20, 20, i) for i in range(2)), *(block(5, 5, 20, 20, 0),) * 9_998)
    assert set(find_duplicates(made, [same] * 10_000).values()) == {0}


def test_thousands_of_nearly_the_same() -> None:
    """Masks in one place that differ by a pixel each are compared with those that are kept, not with one another."""
    rng = np.random.default_rng(0)
    masks = np.ones((3000, 20, 20), dtype=np.bool_)
    masks[np.arange(3000), rng.integers(1, 19, 3000), rng.integers(1, 19, 3000)] = False
    made = sample(*(Instance(0, (5, 5, 25, 25), RunLengths.of(it, 5, 5), False, i) for i, it in enumerate(masks)))
    assert set(find_duplicates(made, draw(made)).values()) == {0}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=7))
def test_crossings_are_what_shapely_calls_invalid(points: list[tuple[int, int]]) -> None:
    part = np.array(points, dtype=np.float64)
    reason = shapely.is_valid_reason(shapely.Polygon(part))
    assert (crossing(part) is not None) == ("elf-intersection" in reason)


@settings(max_examples=100, deadline=None)
@given(*[st.tuples(*[st.integers(-5, 60)] * 2, *[st.integers(1, 30)] * 2)] * 2)
def test_box_iou_is_shapelys(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    first, second = ((float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in (a, b))
    one, two = shapely.box(*first), shapely.box(*second)
    assert box_iou(first, second) == pytest.approx(one.intersection(two).area / one.union(two).area)


@pytest.mark.parametrize(
    ("points", "by"),
    [([-3, 0, 9, 9, 0, 9], 3), ([0, 0, 53, 9, 0, 9], 3), ([0, 0, 9, 47.5, 0, 9], 7.5), ([0, 0, 50, 40, 0, 40], 0)],
)
def test_excess_is_the_furthest_pixel(points: list[float], by: float) -> None:
    part = np.array(points, dtype=np.float64).reshape(-1, 2)
    assert excess(sample(), Instance(0, (0, 0, 9, 9), Polygons((part,)), False, 1)) == by


def kinds(made: Sample) -> list[tuple[str, str]]:
    return [(it.kind, it.severity) for it in check_shapes(made, draw(made))]


def test_boxes_that_are_not_their_masks() -> None:
    mask = block(10, 10, 20, 20, 1)
    for box, expected in (
        ((10, 10, 30, 30), []),
        ((8.5, 10, 31.5, 30), []),  # rounding
        ((10, 10, 30, 34), [("box-mismatch", "warning")]),
        ((10, 10, 16, 16), [("box-mismatch", "warning")]),
    ):
        assert kinds(sample(Instance(0, box, mask.shape, False, 1))) == expected
    assert kinds(sample(Instance(0, (10, 10, 16, 16), None, False, 1))) == []


def real_pictures(name: str) -> list[np.ndarray]:
    data = read_coco(DATA / name / "train.json", DATA / name / "images")
    return [read_image(it.path) for it in data.samples]


@pytest.mark.parametrize("name", ["nuclei", "mushrooms", "facade", "coco_mini"])
def test_copies_are_found_however_they_lie(name: str, tmp_path: Path) -> None:
    """Turned, mirrored, half as large, brighter, compressed: the same picture; and no other is."""
    originals = [fingerprint(image) for image in real_pictures(name)]
    assert not [it for it in copies_within(originals) if name not in {"mushrooms"}]
    for index, image in enumerate(real_pictures(name)):
        whole = Image.fromarray(image)
        half = whole.resize((whole.width // 2 + 1, whole.height // 2 + 3))
        half.save(tmp_path / "half.jpg", quality=40)
        brighter = half.point(lambda value: min(value * 1.15 + 8, 255))
        changed = [read_image(tmp_path / "half.jpg"), np.asarray(brighter)]
        changed += [np.asarray(half.transpose(turn)) for turn in Image.Transpose]
        for number, copy in enumerate(changed):
            found = copies_between(originals, [fingerprint(copy)])
            assert not any(it.exact for it in found)
            assert index in [it.first for it in found]
            assert len(found) == 1 or name == "mushrooms"  # which are copies of one another themselves
            assert sure_copy(image, copy) or number == 1  # where it is brighter, white parts lose what was in them
        exact, *_ = copies_between(originals, [fingerprint(image.copy())])
        assert exact == (index, 0, True)


def test_a_camera_that_stands_still_makes_no_sure_copies() -> None:
    """Something a twelfth of the side has come into the picture."""
    for image in real_pictures("facade") + real_pictures("coco_mini"):
        height, width = image.shape[:2]
        moved = image.copy()
        place = moved[height // 3 : height // 3 + height // 12, width // 3 : width // 3 + width // 12]
        place[:] = 255 * (place.mean() < 128)
        assert not sure_copy(image, moved)
        other = np.rot90(image)
        assert sure_copy(image, other)
    for one, other in pairwise(real_pictures("nuclei") + real_pictures("facade")):
        assert not sure_copy(one, other)


def test_every_copy_is_listed() -> None:
    """So that a repair leaves none."""
    image = real_pictures("facade")[0]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    prints = [fingerprint(it) for it in (image, mirrored, image)]
    assert copies_between(prints, [fingerprint(image)]) == [(0, 0, True), (2, 0, True), (1, 0, False)]


def test_pictures_without_a_scene_are_compared_by_pixels_alone() -> None:
    black, grey = (np.full((20, 30, 3), value, dtype=np.uint8) for value in (0, 9))
    prints = [fingerprint(black), fingerprint(grey), fingerprint(black.copy())]
    assert [tuple(it) for it in copies_within(prints)] == [(0, 2, True)]
    assert fingerprint(np.zeros((30, 20, 3), dtype=np.uint8)).digest != prints[0].digest


def test_nothing_to_compare() -> None:
    assert copies_within([]) == copies_between([], []) == []
    one = fingerprint(np.zeros((4, 4, 3), dtype=np.uint8))
    assert copies_between([one], []) == copies_between([], [one]) == []


SPOILS = st.sampled_from(
    ["gone.png", "b.png", 4, -1, None, [], {}, [[1, 2, 3]], [[0, 0, 9, 0, 9, 9]], [1, 1, 5, 5], "x"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["images", "annotations", "categories"]), st.integers(0, 5),
    st.sampled_from(["id", "file_name", "width", "image_id", "category_id", "bbox", "segmentation", "name", "iscrowd"]),
    SPOILS), max_size=5))  # fmt: skip
def test_a_collector_reads_to_the_end_and_hears_what_a_strict_reader_says_first(
    tmp_path_factory: pytest.TempPathFactory, spoils: list[tuple[str, int, str, object]]
) -> None:
    import json

    folder = tmp_path_factory.mktemp("set")
    for name, size in (("a.png", (9, 7)), ("b.png", (6, 8))):
        Image.new("RGB", size).save(folder / name)
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 9, "height": 7},
            {"id": 2, "file_name": "b.png", "width": 6, "height": 8},
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": i,
                "image_id": i % 2 + 1,
                "category_id": 1,
                "bbox": [1, 1, 3, 3],
                "segmentation": [[1, 1, 4, 1, 4, 4]],
            }
            for i in range(6)
        ],
    }
    for group, index, key, value in spoils:
        records = content[group]
        records[index % len(records)][key] = value  # type: ignore[index]
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    findings: list[Finding] = []
    data = read_coco(path, folder, report=findings.append)
    errors = [it for it in findings if it.severity == "error"]
    if errors:
        with pytest.raises(DataError) as caught:
            read_coco(path, folder)
        assert str(caught.value) == str(errors[0])
    else:
        strict = read_coco(path, folder)
        assert [(it.image_id, it.width, it.height) for it in strict.samples] == [
            (it.image_id, it.width, it.height) for it in data.samples
        ]
    for one in data.samples:
        assert read_image(one.path).shape[:2] == (one.height, one.width)
        repair_sample(one, lambda _: None)
        assert all(0 <= it.label < len(data.classes) for it in one.instances)


def test_a_polygon_drawn_twice_is_no_hole() -> None:
    ring = np.array([[2, 2], [20, 2], [20, 20], [2, 20]], dtype=np.float64)
    hole = np.array([[5, 5], [9, 5], [9, 9]], dtype=np.float64)
    turned = np.roll(ring, 1, axis=0)[::-1]
    for parts, kinds in (
        ((ring, turned), [("repeated-polygon", "polygon 1 is the same as polygon 0")]),
        ((ring, hole), [("hole-as-ring", "polygon 1 lies inside polygon 0")]),
        (
            (ring, hole, ring, ring),
            [
                ("repeated-polygon", "polygon 2 is the same as polygon 0"),
                ("repeated-polygon", "polygon 3 is the same as polygon 0"),
                ("hole-as-ring", "polygon 1 lies inside polygon"),
            ],
        ),
    ):
        made = sample(Instance(0, (2, 2, 20, 20), Polygons(parts), False, 1))
        found = list(check_shapes(made, draw(made)))
        assert [it.kind for it in found] == [kind for kind, _ in kinds]
        assert all(text in it.message for it, (_, text) in zip(found, kinds, strict=True))
