"""YOLO's data.yaml and rows: every spelling that Ultralytics, Roboflow and CVAT write; every other one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as oracle

from condinst.data.findings import Finding
from condinst.data.open import list_splits, open_data
from condinst.data.sample import AnnotatedData, Polygons
from condinst.errors import DataError, UsageError
from condinst.ops.bitmaps.bridges import bridge
from condinst.ops.bitmaps.rle import decode

Told = Callable[..., str]
WIDTH, HEIGHT = 40, 20
TRIANGLE = "1 0.1 0.1 0.5 0.1 0.5 0.9"


def make(folder: Path, rows: str | bytes = TRIANGLE, names: str = "[cat, dog]", more: str = "train: images") -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")
    (folder / "labels" / "a.txt").write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    (folder / "data.yaml").write_text(f"{more}\nnames: {names}\n", encoding="utf-8")
    return folder


def objects(data: AnnotatedData) -> list[tuple[str, Any]]:
    return [
        (data.classes[each.label], each.shape.parts[0].tolist() if isinstance(each.shape, Polygons) else each.box)
        for sample in data.samples
        for each in sample.instances
    ]


def test_a_polygon_and_a_box(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, f"{TRIANGLE}\n0 0.5 0.5 0.25 0.5"))
    assert objects(data) == [("dog", [[4, 2], [20, 2], [20, 18]]), ("cat", (15, 5, 25, 15))]
    assert data.samples[0].instances[0].box == (4, 2, 20, 18)
    assert data.samples[0].instances[1].shape is None
    assert (data.classes, data.category_ids) == (("cat", "dog"), (0, 1))
    assert (data.samples[0].width, data.samples[0].height, data.samples[0].image_id) == (WIDTH, HEIGHT, 1)


@pytest.mark.parametrize(
    "rows",
    [
        b"\xef\xbb\xbf" + TRIANGLE.encode(),
        TRIANGLE.replace(" ", "\t").encode() + b"\r\n\r\n",
        b"\n\n " + TRIANGLE.encode() + b"  \n",
        TRIANGLE.replace("1 0.1", "1.0 1e-1").encode(),
    ],
)
def test_spellings_of_rows(tmp_path: Path, rows: bytes) -> None:
    assert objects(open_data(make(tmp_path, rows))) == [("dog", [[4, 2], [20, 2], [20, 18]])]


@pytest.mark.parametrize(
    "names", ["[cat, dog]", "{0: cat, 1: dog}", "\n  1: dog\n  0: cat", "\n- cat\n- dog", "{'0': cat, '1': dog}"]
)
def test_spellings_of_names(tmp_path: Path, names: str) -> None:
    assert open_data(make(tmp_path, names=names)).classes == ("cat", "dog")


def test_names_of_any_script_and_numbers(tmp_path: Path) -> None:
    assert open_data(make(tmp_path, names="['Zellkern Ä', 細胞, 7, 'no']")).classes == ("Zellkern Ä", "細胞", "7", "no")


@pytest.mark.parametrize(
    "more",
    [
        "train: images",
        "train: ./images/",
        "train: [images]",
        "train: images/a.png",
        "train: list.txt",
        "path: .\ntrain: images",
        "path: /content/datasets/mine\ntrain: images",  # as on the machine it was written on
        "path: set\ntrain: images",  # seen from the folder above
        "train: ../images",  # Roboflow's
        "train: .\\images",  # Windows'
        "train: /content/set-1/images/deep",  # as on the machine it was written on
        "train: D:\\work\\set\\images\\deep",
        "train: images\nval: ../valid/images\ntest: ../test/images",  # Roboflow names splits that it did not write
        "train: {root}/images",
        "path: {root}\ntrain: images",
    ],
)
def test_ways_to_the_pictures(tmp_path: Path, more: str) -> None:
    folder = make(tmp_path / "set", more=more.format(root=tmp_path / "set"))
    (folder / "list.txt").write_text("./images/a.png\n")
    if "deep" in more:
        for kind, name in (("images", "a.png"), ("labels", "a.txt")):
            (folder / kind / "deep").mkdir()
            (folder / kind / name).rename(folder / kind / "deep" / name)
    for data in (folder, folder / "data.yaml"):
        assert len(objects(open_data(data))) == 1


@pytest.mark.parametrize(
    "line",
    ["images/a.png", "./images/a.png", "data/images/a.png", "/content/set/images/a.png", "C:\\set\\images\\a.png"],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_lists_of_pictures_of_another_machine(tmp_path: Path, line: str, end: str) -> None:
    folder = make(tmp_path, more="train: train.txt")
    (folder / "train.txt").write_text(line + end)
    assert [sample.path for sample in open_data(folder).samples] == [folder / "images" / "a.png"]


def test_lists_with_pictures_that_are_missing(tmp_path: Path, told: Told, collected: list[Finding]) -> None:
    """Each is found; and two lines never become one picture in silence."""
    folder = make(tmp_path, more="train: train.txt")
    (folder / "train.txt").write_text("images/a.png\nimages/b.png\nother/images/a.png\nimages/a.png\n")
    data = open_data(folder, report=collected.append)
    assert [(each.kind, each.id, each.severity) for each in collected] == [
        ("missing-picture", 2, "error"),
        ("missing-picture", 3, "error"),
    ]
    assert "line 3: lists other/images/a.png as well as images/a.png, but only" in str(collected[1])
    assert len(data.samples) == 1
    assert "line 2: lists images/b.png, but it does not exist" in told(open_data, folder)


def test_a_split_that_is_only_named(tmp_path: Path, told: Told) -> None:
    """Roboflow names test/ also where it wrote none; a train or val that is missing is an error."""
    folder = make(tmp_path, more="train: images\nval: images\ntest: ../test/images")
    assert list_splits(folder) == ("train", "val")
    assert open_data(folder).notes == (
        f"{folder / 'data.yaml'}: left out 'test', because ../test/images does not exist",
    )
    make(tmp_path, more="train: images\nval: ../valid/images")
    assert "'val' names ../valid/images, but it does not exist; correct it" in told(open_data, folder, "val")


def test_any_name_of_the_yaml_is_the_last_resort(tmp_path: Path, told: Told) -> None:
    folder = make(tmp_path)
    (folder / "data.yaml").rename(folder / "my-seg.yaml")
    (folder / "settings.yml").write_text("epochs: 3")
    assert len(objects(open_data(folder))) == 1
    (folder / "other.yaml").write_text("names: [a]\ntrain: images")
    assert "not a data set of a known format" in told(open_data, folder)


def test_the_last_images_of_the_path_counts(tmp_path: Path) -> None:
    assert len(objects(open_data(make(tmp_path / "images" / "of images")))) == 1


def test_splits_and_folders_below(tmp_path: Path) -> None:
    """Two pictures of one name are two."""
    make(tmp_path, more="train: images/train\nval: images/val\ntest:")
    for place in ("train/monday", "train/tuesday", "val"):
        for kind, name in (("images", "b.png"), ("labels", "b.txt")):
            (tmp_path / kind / place).mkdir(parents=True)
            (tmp_path / kind / place / name).write_bytes((tmp_path / kind / f"a{name[1:]}").read_bytes())
    assert list_splits(tmp_path) == ("train", "val")
    assert [sample.path.parent.name for sample in open_data(tmp_path).samples] == ["monday", "tuesday"]
    assert len(open_data(tmp_path, "val").samples) == 1


def test_pictures_without_labels_hold_nothing_and_are_told(tmp_path: Path, told: Told) -> None:
    make(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "b.png")
    data = open_data(tmp_path)
    assert [len(sample.instances) for sample in data.samples] == [1, 0]
    assert data.notes == (f"{tmp_path / 'data.yaml'}: 1 pictures of train have no label file, so they have no objects",)
    (tmp_path / "labels" / "a.txt").unlink()
    assert f"none of the 2 pictures of train has a label file; expected {tmp_path / 'labels' / 'a.txt'}" in told(
        open_data, tmp_path
    )


def test_labels_whose_picture_is_missing(tmp_path: Path, told: Told, collected: list[Finding]) -> None:
    make(tmp_path)
    lost = tmp_path / "labels" / "b.txt"
    lost.write_text(TRIANGLE)
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")  # as labelImg leaves it
    line = f"{lost}: no picture of this name in {tmp_path / 'images'}; put it there or remove the file"
    assert told(open_data, tmp_path) == line
    data = open_data(tmp_path, report=collected.append)
    assert [(each.kind, each.severity, each.file) for each in collected] == [("missing-picture", "error", lost)]
    assert len(data.samples) == 1
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "b.jpg")
    (tmp_path / "train.txt").write_text("images/a.png\n")  # b is of no split, but there
    make(tmp_path, more="train: train.txt")
    assert len(open_data(tmp_path).samples) == 1


def test_texts_beside_the_pictures_are_no_labels_alone(tmp_path: Path) -> None:
    """Without a folder `images` in its path, a picture's labels lie beside it, and so may any text."""
    make(tmp_path, more="train: pictures")
    (tmp_path / "images").rename(tmp_path / "pictures")
    (tmp_path / "pictures" / "a.txt").write_text(TRIANGLE)
    (tmp_path / "pictures" / "readme.txt").write_text("These are mine.")
    assert len(objects(open_data(tmp_path))) == 1


def test_upright_pixels(tmp_path: Path) -> None:
    make(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png", exif=exif)
    sample = open_data(tmp_path).samples[0]
    assert (sample.width, sample.height) == (HEIGHT, WIDTH)
    assert sample.instances[0].box == (2, 4, 10, 36)


def test_parts_that_cuts_join_come_apart_and_holes_stay(tmp_path: Path) -> None:
    square = np.array([[2.0, 2], [8, 2], [8, 8], [2, 8]])
    hole = np.array([[4.0, 4], [4, 6], [6, 6], [6, 4]])
    for rings, parts in (([square, square + np.array([20, 0])], 2), ([square, hole], 1)):
        joined = bridge(rings)
        row = " ".join(f"{number:.6f}" for number in (joined / (WIDTH, HEIGHT)).ravel())
        sample = open_data(make(tmp_path, f"0 {row}")).samples[0]
        shape = sample.instances[0].shape
        assert isinstance(shape, Polygons)
        assert len(shape.parts) == parts
        drawn = oracle.frPyObjects([joined.ravel().tolist()], HEIGHT, WIDTH)
        assert (decode(shape.whole(HEIGHT, WIDTH)) == oracle.decode(drawn)[..., 0]).all()


BAD_ROWS = [
    ("5 0.1 0.1 0.5 0.1 0.5 0.9", "row 1: class 5, but data.yaml names 0 to 1"),
    ("0.5 0.1 0.1 0.5 0.1 0.5 0.9", "row 1: class 0.5, but"),
    ("-1 0.1 0.1 0.5 0.1 0.5 0.9", "row 1: class -1, but"),
    ("nan 0.1 0.1 0.5 0.1 0.5 0.9", "row 1: class nan, but"),
    (f"{TRIANGLE}\n0", "row 2: 0 coordinates"),
    ("0 0.1 0.1", "row 1: 2 coordinates; a polygon has pairs of 3 points or more"),
    ("0 0.1 0.1 0.5 0.1 0.5 0.9 0.2", "row 1: 7 coordinates"),
    ("0 4 2 20 2 20 18", "row 1: coordinate 20 is outside the picture; coordinates are parts of the picture's width"),
    ("0 0.5 0.5 0.9 1.5", "is outside the picture"),
    ("0 nan 0.1 0.5 0.1 0.5 0.9", "row 1: coordinate nan is outside"),
    ("0 1e999 0.1 0.5 0.1 0.5 0.9", "row 1: coordinate inf is outside"),
    ("cat 0.1 0.1 0.5 0.1 0.5 0.9", "row 1: has values that are not numbers: 'cat 0.1"),
    (b"\xff\xfe0", "not UTF-8 text"),
    (b"\x00\x01", "row 1: has values that are not numbers"),
]


@pytest.mark.parametrize(("rows", "line"), BAD_ROWS)
def test_bad_rows_are_one_line_or_left_out(
    tmp_path: Path, told: Told, collected: list[Finding], rows: str | bytes, line: str
) -> None:
    folder = make(tmp_path, rows)
    said = told(open_data, folder)
    assert said.startswith(str(folder / "labels" / "a.txt"))
    assert line in said
    open_data(folder, report=collected.append)
    assert [finding.severity for finding in collected] == ["error"]
    assert str(collected[0]) == said


def test_rounding_and_no_area(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, "0 -0.001 0 1.002 0 1 1\n1 0.5 0.5 0 0.1\n1 0.1 0.1 0.2 0.1 0.3 0.1"))
    assert [each.label for each in data.samples[0].instances] == [0]
    assert data.notes == (f"{tmp_path / 'data.yaml'}: left out 2 objects whose box or mask covers no pixel",)


BAD_YAML = [
    ("names: [a", "not valid YAML (line"),
    ("names: &a [*a]\ntrain: images", "not valid YAML (line 1: aliases, as in *name, are not read"),
    ("names: [a]\ntrain: " + "1:" * 400_000 + "1", "File name too long"),
    ("names: [a]\nnc: " + "1" * 900_000, "line 2: a number of more than 100 digits"),
    ("names: [a]\ntrain: !!python/name:os.system x", "line 2: the tag tag:yaml.org,2002:python/name:os.system"),
    ("names: [a]\nnames: [b]", "line 2: the key 'names' stands twice"),
    ("train: images\nnames: " + "[" * 900_000, "line 2: nested too deeply"),
    ("train: images\nnames: {0: a, '0': b}", "class 0 is listed twice"),
    ("train: images\nnames:\n ? '" + "1" * 5000 + "'\n : b", "is no class number"),
    ("train: 2024-01-01\nnames: [a]", "names 2024-01-01, but it does not exist"),
    ("#" * 1_000_001, "larger than 1 MB"),
    ("a: b", "no 'names'"),
    ("- a", "no 'names'"),
    ("train: images\nnames: {}", "'names' must list the classes"),
    ("train: images\nnames: 7", "'names' must list the classes"),
    ("train: images\nnames: [no, yes]", "class 0 is read as False; put its name in quotes"),
    ("train: images\nnames: [a, a]", "two classes the same name"),
    ("train: images\nnames: {1: a, 2: b}", "numbered from 0 without a gap, got [1, 2]"),
    ("train: images\nnames: {a: 1}", "'a' is no class number"),
    ('train: images\nnames: ["a\\u0007"]', "control characters"),
    ("train: 7\nnames: [a]", "'train' must name folders or lists of pictures, got 7"),
    ("train: gone\nnames: [a]", "names gone, but it does not exist; correct it or put it there; looked for"),
    ("train: images\nnc: 3\nnames: [a]", "'nc' says 3 classes, but 'names' has 1"),
    ("train: labels\nnames: [a]", "'train' has no pictures"),
    ("train: list.txt\nnames: [a]", "list.txt: line 1: lists gone.png, but it does not exist; put it there"),
    ("train: data.yaml\nnames: [a]", "not a folder, a list of pictures (.txt) or a picture"),
    ("path: 7\ntrain: images\nnames: [a]", "'path' must be the folder"),
    ("train: images\nkpt_shape: [17, 3]\nnames: [a]", "describes key points"),
    ("val: images\nnames: [a]", "has val but no train split"),
]


@pytest.mark.parametrize(("text", "line"), BAD_YAML)
def test_bad_yaml_is_one_line(tmp_path: Path, told: Told, text: str, line: str) -> None:
    folder = make(tmp_path)
    (folder / "list.txt").write_text("gone.png")
    (folder / "data.yaml").write_text(text)
    assert line in told(open_data, folder)


def test_pictures_that_are_missing_or_no_pictures(tmp_path: Path, told: Told) -> None:
    folder = make(tmp_path)
    (folder / "images" / "a.png").write_bytes(b"no picture")
    assert "a.png: not an image in one of the formats" in told(open_data, folder)
    with pytest.raises(UsageError, match="states the places of its pictures"):
        open_data(folder, images=tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60) | st.lists(st.floats() | st.integers(), max_size=9).map(lambda row: " ".join(map(str, row)))
)
def test_fuzzed_rows_end_in_data_or_one_line(tmp_path_factory: pytest.TempPathFactory, row: str) -> None:
    folder = make(tmp_path_factory.getbasetemp() / "fuzz", row.encode("utf-8", "replace"))
    line = ""
    try:
        open_data(folder)
    except DataError as error:
        line = str(error)
    assert "\n" not in line
