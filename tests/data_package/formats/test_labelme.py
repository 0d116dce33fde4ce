"""labelme files: all its shapes, groups, and what is wrong with one in one line."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import Point
from shapely.geometry import Polygon as Area

from condinst.config import Config
from condinst.data.findings import Finding
from condinst.data.formats.convert import Target, convert_data
from condinst.data.open import list_splits, open_data
from condinst.data.pictures.image import read_image
from condinst.data.sample import Polygons
from condinst.doctor.examination import examine
from condinst.errors import DataError
from condinst.ops.bitmaps.rle import decode

Told = Callable[..., str]
WIDTH, HEIGHT = 40, 20
TRIANGLE = [[4.0, 2.0], [20.0, 2.0], [20.0, 18.0]]


def png(mask: NDArray[Any]) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def shape(sort: str | None = "polygon", points: Any = TRIANGLE, label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "flags": {}, "shape_type": sort, **more}


def make(folder: Path, *shapes: Any, name: str = "a", **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.png")
    document = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.png", "imageData": None}
    document |= {"imageHeight": HEIGHT, "imageWidth": WIDTH, **more}
    (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def only(folder: Path) -> Any:
    (instance,) = open_data(folder).samples[0].instances
    return instance


def test_polygon(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, shape(), shape(None, label="Ä 細胞"), shape("rotation", label="ant")))
    assert data.classes == ("ant", "cat", "Ä 細胞")
    assert data.category_ids == (1, 2, 3)
    first = data.samples[0].instances[0]
    assert first.shape.parts[0].tolist() == TRIANGLE
    assert first.box == (4, 2, 20, 18)
    assert [each.label for each in data.samples[0].instances] == [1, 2, 0]


@pytest.mark.parametrize("points", [[[20, 18], [4, 2]], [[4, 2], [20, 2], [20, 18], [4, 18]]])
def test_a_rectangle_is_a_box_alone(tmp_path: Path, points: Any) -> None:
    instance = only(make(tmp_path, shape("rectangle", points)))
    assert (instance.shape, instance.box) == (None, (4, 2, 20, 18))


def test_circle(tmp_path: Path) -> None:
    instance = only(make(tmp_path, shape("circle", [[18, 10], [24, 10]])))
    ring, disc = Area(instance.shape.parts[0]), Point(18, 10).buffer(6, quad_segs=64)
    assert ring.intersection(disc).area / ring.union(disc).area > 0.98
    assert instance.box == pytest.approx((12, 4, 24, 16), abs=0.1)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("inclusive", [1, 0])
def test_mask(tmp_path: Path, high: int, inclusive: int) -> None:
    """labelme writes ones, and the last pixel's place; others write 255, and the corner behind it."""
    mask = np.zeros((6, 9), dtype=np.uint8)
    mask[1:5, 2:8] = high
    mask[2, 3] = 0  # a hole
    corners = [[10.0, 5.0], [10.0 + 9 - inclusive, 5.0 + 6 - inclusive]]
    instance = only(make(tmp_path, shape("mask", corners, mask=png(mask))))
    whole = np.zeros((HEIGHT, WIDTH), dtype=bool)
    whole[5:11, 10:19] = mask > 0
    assert (decode(instance.shape.whole(HEIGHT, WIDTH)) == whole).all()
    assert instance.box == (12, 6, 18, 10)


def test_groups_are_one_object(tmp_path: Path) -> None:
    """Of one class: a dog in the cat's group is another object, and so is a cat without a group."""
    other = [[30.0, 2.0], [38.0, 2.0], [38.0, 9.0]]
    shapes = [shape(group_id=3), shape(points=other, group_id=3), shape(label="dog", group_id=3), shape(), shape()]
    data = open_data(make(tmp_path, *shapes))
    instances = data.samples[0].instances
    assert [each.label for each in instances] == [0, 1, 0, 0]
    assert [part.tolist() for part in instances[0].shape.parts] == [TRIANGLE, other]
    assert instances[0].box == (4, 2, 38, 18)


def test_groups_of_several_sorts(tmp_path: Path) -> None:
    mask = np.full((4, 4), 1, dtype=np.uint8)
    corner = shape("mask", [[0, 0], [3, 3]], mask=png(mask), group_id=1)
    box = shape("rectangle", [[30, 10], [34, 15]], group_id=1)
    whole = decode(only(make(tmp_path, corner, box)).shape.whole(HEIGHT, WIDTH))
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[:4, :4] = expected[10:15, 30:34] = True
    assert (whole == expected).all()
    both = only(make(tmp_path, box, shape("rectangle", [[0, 0], [5, 5]], group_id=1)))
    assert (both.shape, both.box) == (None, (0, 0, 34, 15))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    folder = make(
        tmp_path,
        shape(),
        shape("line", [[0, 0], [1, 1]]),
        shape("point", [[0, 0]]),
        shape("point", [[0, 0]]),
        shape(points=[[1, 1], [2, 1], [3, 1]]),
        shape("mask", [[0, 0], [3, 3]], mask=png(np.zeros((4, 4), dtype=np.uint8))),
    )
    Image.new("L", (4, 4)).save(folder / "unlabelled.png")
    data = open_data(folder)
    assert len(data.samples) == 1
    assert data.notes == tuple(
        f"{folder}: left out {what}"
        for what in (
            "2 objects whose box or mask covers no pixel",
            "1 shapes of the type line, because they have no area",
            "2 shapes of the type point, because they have no area",
            "1 pictures that no annotation names (unlabelled.png)",
        )
    )


def test_folders_files_and_splits(tmp_path: Path) -> None:
    make(tmp_path / "train" / "monday", shape(), name="b")
    make(tmp_path / "train", shape(), name="a")
    make(tmp_path / "val", shape(label="dog"))
    (tmp_path / "train" / "a_classes.json").write_text("[]")
    (tmp_path / "train" / "a_classes.json").unlink()
    assert list_splits(tmp_path) == ("train", "val")
    assert [sample.path.name for sample in open_data(tmp_path).samples] == ["a.png", "b.png"]
    assert open_data(tmp_path, "val").classes == ("dog",)
    assert len(open_data(tmp_path / "val" / "a.json").samples) == 1


@pytest.mark.parametrize("image_path", ["..\\photos\\a.png", "C:\\x\\a.png", "../gone/a.png", "other.png"])
def test_ways_to_the_picture(tmp_path: Path, image_path: str) -> None:
    folder = make(tmp_path / "set", shape(), imagePath=image_path)
    assert open_data(folder).samples[0].path == folder / "a.png"
    (tmp_path / "photos").mkdir()
    shutil.move(folder / "a.png", tmp_path / "photos" / "a.png")
    assert open_data(folder, images=tmp_path / "photos").samples[0].path.resolve() == tmp_path / "photos" / "a.png"


def test_sizes_that_are_not_stated_are_not_doubted(tmp_path: Path) -> None:
    assert only(make(tmp_path, shape(), imageHeight=None)).box == (4, 2, 20, 18)


@pytest.mark.parametrize("format", ["coco", "yolo", "labelme"])
def test_pictures_inside_the_files(tmp_path: Path, format: Target) -> None:
    """Where the picture files were left behind, those in imageData are read, checked and converted like files."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    folder = make(tmp_path / "set", shape(), imageData=png(pixels), imagePath="gone/a.jpg")
    (folder / "a.png").unlink()
    data = open_data(folder)
    assert data.notes == (
        f"{folder}: 1 pictures are read from imageData in their JSON files, because there are no picture files",
    )
    (sample,) = data.samples
    assert (sample.path, sample.width, sample.height) == (folder / "a.json", WIDTH, HEIGHT)
    assert (read_image(sample.path) == pixels).all()
    assert examine({"all": data}, {}, Config()).healthy

    told = convert_data(folder, tmp_path / "new", format, link=True).notes
    assert not [line for line in told if "renamed" in line]
    (again,) = open_data(tmp_path / "new").samples
    assert again.path.name == "a.png"
    assert (read_image(again.path) == pixels).all()
    assert again.instances[0].box == sample.instances[0].box


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (7, "a.json: not an image in one of the formats"),
        ("%", "a.json: cannot be read as an image ("),
        ("QUJD", "a.json: not an image in one of the formats"),
        (png(np.zeros((9, 9), np.uint8)), "says 40×20, but a.json has 9×9 pixels"),
    ],
)
def test_bad_pictures_inside_the_files_are_one_line(tmp_path: Path, told: Told, content: Any, line: str) -> None:
    folder = make(tmp_path, shape(), imageData=content)
    (folder / "a.png").unlink()
    assert line in told(open_data, folder)


@pytest.mark.parametrize("orientation", [6, 3])
def test_turned_pictures(tmp_path: Path, told: Told, orientation: int) -> None:
    folder = make(tmp_path, shape(points=[[1, 1], [9, 1], [9, 30]]), imageHeight=WIDTH, imageWidth=HEIGHT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png", exif=exif)
    if orientation == 6:
        assert (open_data(folder).samples[0].width, open_data(folder).samples[0].height) == (HEIGHT, WIDTH)
        make(folder, shape())
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png", exif=exif)
        line = told(open_data, folder)
        assert "says 40×20, but a.png has 20×40 pixels upright" in line
        assert "does not follow the EXIF" in line
    else:
        assert "says 20×40, but a.png has 40×20 pixels (upright" in told(open_data, folder)


BAD: list[tuple[Any, str]] = [
    (7, r"shapes[0]: must be an object, got 7"),
    (shape(label=None), "shapes[0]: 'label' must be the name of a class, got None"),
    (shape(label=" "), "'label' must be the name of a class"),
    (shape(label="a\x07"), "control characters"),
    (shape(points=TRIANGLE[:2]), "a polygon needs 3 points, got 2"),
    (shape(points=[[1, 2], [3]]), "'points' must be a list of [x, y]"),
    (shape(points="x"), "'points' must be a list of [x, y]"),
    (shape(points=[*TRIANGLE, [1, None]]), "'points' must hold finite numbers"),
    (shape(points=[*TRIANGLE, [1, float("nan")]]), "'points' must hold finite numbers"),
    (shape(points=[*TRIANGLE, [1, 10**400]]), "'points' must hold finite numbers"),
    (shape("rectangle"), "a rectangle has 2 points, got 3"),
    (shape("circle"), "a circle has 2 points, got 3"),
    (shape("blob"), "shape_type 'blob' is not known"),
    (shape([1]), "shape_type [1] is not known"),
    (shape({"a": 1}), "shape_type {'a': 1} is not known"),
    (shape(group_id=[1]), "'group_id' must be a number or null, got a list"),
    (shape("mask", [[0, 0], [3, 3]]), "'mask' must be a PNG in base64, got nothing"),
    (shape("mask", [[0, 0], [3, 3]], mask="%"), "'mask' is not base64"),
    (shape("mask", [[0, 0], [3, 3]], mask="QUJD"), "its mask: not an image"),
    (shape("mask", [[0, 0], [3, 3]], mask=png(np.zeros((4, 4), np.uint8))[:60]), "its mask: "),
    (shape("mask", [[0, 0], [3, 3]], mask=png(np.zeros((900, 900), np.uint8))), "is over the limit of 3,200"),
    (shape("mask", [], mask=png(np.ones((4, 4), np.uint8))), "a mask has 2 points, got 0"),
    (
        shape("mask", [[40, 0], [43, 3]], mask=png(np.ones((4, 4), np.uint8))),
        "a mask of 4×4 pixels at (40, 0) lies out",
    ),
]


@pytest.mark.parametrize(("record", "line"), BAD)
def test_bad_shapes_are_one_line_or_left_out(
    tmp_path: Path, told: Told, collected: list[Finding], record: Any, line: str
) -> None:
    folder = make(tmp_path, record, shape(label="good"))
    said = told(open_data, folder)
    assert said.startswith(f"{folder / 'a.json'}: shapes[0]: ")
    assert line in said
    data = open_data(folder, report=collected.append)
    assert [str(finding) for finding in collected] == [said]
    assert [len(sample.instances) for sample in data.samples] == [1]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            {"shapes": [shape(points=[[50, 2], [60, 2], [60, 9]])]},
            "object 1: its box (50, 2, 60, 9) lies outside the picture of 40×20 pixels",
        ),
        ({"imagePath": 7}, "'imagePath' must be text"),
        ({"imagePath": None}, ""),  # found by the name of the JSON file
        ({"imagePath": ""}, ""),
        ({"imagePath": "gone/b.png", "extra": 1}, ""),  # found by the name of the JSON file
        ({"imagePath": "x" * 5000}, "cannot be read (File name too long)"),
        ({"imageWidth": 41}, "says 41×20, but a.png has 40×20 pixels"),
        ({"shapes": {}}, "'shapes' must be a list, got an object"),
        ({"shapes": []}, "no object is annotated"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, told: Told, more: dict[str, Any], line: str) -> None:
    folder = make(tmp_path, shape(), **more)
    if line:
        assert line in told(open_data, folder)
    else:
        assert len(open_data(folder).samples) == 1


def test_broken_and_foreign_files(tmp_path: Path, told: Told) -> None:
    folder = make(tmp_path, shape())
    (folder / "z.json").write_text('{"shapes": [')
    assert "z.json: not valid JSON" in told(open_data, folder)
    (folder / "z.json").write_text('{"version": 1}')
    assert "z.json: no labelme file: it has no 'shapes'; move it out of the folder" in told(open_data, folder)
    (folder / "z.json").unlink()
    (folder / "a.png").unlink()
    assert f"its picture {folder / 'a.png'}: no such file" in told(open_data, folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(shape())), VALUES, st.sampled_from(["polygon", "rectangle", "circle", "mask"]))
def test_fuzzed_shapes_end_in_data_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, sort: str
) -> None:
    folder = make(
        tmp_path_factory.getbasetemp() / "fuzz", shape(sort, TRIANGLE[:2], mask="QUJD") | {key: value}, shape()
    )
    line = ""
    try:
        open_data(folder)
    except DataError as error:
        line = str(error)
    assert "\n" not in line


@pytest.mark.parametrize("name", ["coco_mini", "nuclei", "facade"])
def test_real_objects_as_labelme_would_hold_them(
    tmp_path: Path, sets: Path, truth: Any, drawn: Any, same: Any, name: str
) -> None:
    """Polygons as they are, parts in a group, everything else as a mask."""
    coco, expected = truth(name, "train")
    for number, image in coco.imgs.items():
        shutil.copy(sets / name / "images" / image["file_name"], tmp_path)
        shapes = []
        for each in coco.imgToAnns[number]:
            label, parts = coco.cats[each["category_id"]]["name"], each["segmentation"]
            if isinstance(parts, list):
                points = [np.array(part).reshape(-1, 2).tolist() for part in parts]
                shapes += [shape(points=part, label=label, group_id=each["id"]) for part in points]
                continue
            mask = coco.annToMask(each)
            (y0, x0), (y1, x1) = np.argwhere(mask).min(0).tolist(), np.argwhere(mask).max(0).tolist()
            corners = [[x0, y0], [x1, y1]]
            shapes.append(shape("mask", corners, label, mask=png(mask[y0 : y1 + 1, x0 : x1 + 1])))
        document = {"shapes": shapes, "imagePath": image["file_name"], "imageHeight": image["height"]}
        (tmp_path / image["file_name"]).with_suffix(".json").write_text(
            json.dumps(document | {"imageWidth": image["width"]})
        )
    data = open_data(tmp_path)
    same(drawn(data), expected)
    assert any(isinstance(each.shape, Polygons) for sample in data.samples for each in sample.instances) or (
        name == "nuclei"
    )


def test_a_mask_decides_over_its_points(tmp_path: Path) -> None:
    """Points of another size, swapped, or around the object alone, beside a mask of the whole picture."""
    small, whole = np.ones((4, 5), dtype=np.uint8), np.zeros((20, 40), dtype=np.uint8)
    whole[3:9, 10:21] = 1
    masks = [(small, [[2, 3], [2, 3]]), (small, [[2, 3], [30, 19]]), (whole, [[10, 3], [20, 8]])]
    shapes = [shape("mask", points, mask=png(mask)) for mask, points in masks]
    swapped = shape("mask", [[6, 6], [2, 3]], mask=png(small))
    boxed = shape("rectangle", [[2, 3], [6, 6]], mask=png(small))
    data = open_data(make(tmp_path, *shapes, swapped, boxed))
    (sample,) = data.samples
    assert [each.box for each in sample.instances] == [(2, 3, 7, 7)] * 2 + [(10, 3, 21, 9)] + [(2, 3, 7, 7)] * 2
    assert all(each.shape is not None for each in sample.instances)
    assert data.notes == (f"{tmp_path}: 3 masks do not fit their points; condinst uses the masks",)


def test_masks_that_stick_out_are_cut_and_stray_points_left_out(tmp_path: Path) -> None:
    mask = shape("mask", [[38, -1], [40, 2]], mask=png(np.ones((4, 3), np.uint8)))
    stray = [shape(points=[[3, 3]], group_id=1), shape(group_id=1)]
    found: list[Finding] = []
    data = open_data(make(tmp_path, mask, *stray), report=found.append)
    first, second = data.samples[0].instances
    assert (first.box, decode(first.shape.whole(HEIGHT, WIDTH)).sum()) == ((38, 0, 40, 3), 6)
    assert second.shape.parts[0].tolist() == TRIANGLE
    assert [(it.kind, it.severity, it.id) for it in found] == [
        ("outside", "warning", 0), ("short-polygon", "warning", 1)
    ]  # fmt: skip
    assert any("1 masks stick out" in note for note in data.notes)
    assert any("left out 1 polygons of fewer than three points" in note for note in data.notes)


def test_an_empty_group_is_none_and_a_group_may_be_written_as_float(tmp_path: Path) -> None:
    other = [[20, 2], [30, 2], [30, 9]]
    apart = open_data(make(tmp_path / "apart", shape(group_id=""), shape(points=other, group_id="")))
    one = open_data(make(tmp_path / "one", shape(group_id=1.0), shape(points=other, group_id=1)))
    assert [len(data.samples[0].instances) for data in (apart, one)] == [2, 1]
