"""Pascal VOC's segmentation folders, its own and those that CVAT and labelme write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condinst.data.findings import Finding
from condinst.data.open import list_splits, open_data
from condinst.ops.bitmaps.rle import decode

Told = Callable[..., str]
HEIGHT, WIDTH = 10, 14
OBJECTS = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
OBJECTS[1:5, 1:5] = 1
OBJECTS[1:5, 7:12] = 2
OBJECTS[6:9, 2:9] = 3
OBJECTS[0, :6] = 255  # void
CLASSES = np.zeros_like(OBJECTS)
CLASSES[OBJECTS == 1] = 8  # cat
CLASSES[OBJECTS == 2] = 12  # dog
CLASSES[OBJECTS == 3] = 8
CLASSES[3, 1:3] = 12  # a few pixels of the cat are called dog
CLASSES[OBJECTS == 255] = 255


def voc_palette() -> list[int]:
    """As the devkit states it: bits of the index dealt to the channels."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        rest = index
        for shift in range(7, -1, -1):
            red |= (rest & 1) << shift
            green |= (rest >> 1 & 1) << shift
            blue |= (rest >> 2 & 1) << shift
            rest >>= 3
        colours += [red, green, blue]
    return colours


def save(path: Path, numbers: NDArray[np.uint8], palette: list[int] | None, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    if palette is not None:
        image.putpalette(palette)
    (image.convert("RGB") if colour else image).save(path)


def make(
    folder: Path, lists: dict[str, str] | None = None, palette: list[int] | None = None, colour: bool = False
) -> Path:
    palette = voc_palette() if palette is None else palette
    for name in ("b_2", "a_1"):
        (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / f"{name}.jpg")
        save(folder / "SegmentationObject" / f"{name}.png", OBJECTS, palette, colour)
        save(folder / "SegmentationClass" / f"{name}.png", CLASSES, palette, colour)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
    for split, text in (lists or {}).items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text)
    return folder


def check(data: Any, names: tuple[str, str] = ("cat", "dog")) -> None:
    """All objects of every picture, in any order: colours sort in another way than numbers."""
    expected = {(number == OBJECTS).tobytes(): names[number == 2] for number in (1, 2, 3)}
    for sample in data.samples:
        found = [(decode(each.shape.whole(HEIGHT, WIDTH)), data.classes[each.label]) for each in sample.instances]
        assert len(found) == 3
        assert {mask.tobytes(): name for mask, name in found} == expected


def test_vocs_own_layout(tmp_path: Path) -> None:
    folder = make(tmp_path, {"train": "b_2\n", "val": "a_1\r\n", "trainval": "a_1\nb_2\n"})
    assert list_splits(folder) == ("train", "val")
    data = open_data(folder)
    check(data)
    assert [sample.path.name for sample in data.samples] == ["b_2.jpg"]
    assert [sample.path.name for sample in open_data(folder, "val").samples] == ["a_1.jpg"]
    assert (len(data.classes), data.classes[7], data.category_ids[7]) == (20, "cat", 8)
    assert data.notes == (
        f"{folder}: no labelmap.txt or class_names.txt, so condinst uses the twenty classes of Pascal VOC",
    )


def test_without_lists_every_picture_counts(tmp_path: Path) -> None:
    data = open_data(make(tmp_path))
    assert list_splits(tmp_path) == ()
    assert [sample.path.name for sample in data.samples] == ["a_1.jpg", "b_2.jpg"]
    check(data)


@pytest.mark.parametrize("palette", [None, [value for index in range(256) for value in (index, 7, 255 - index)]])
def test_numbers_count_whatever_the_palette_shows(tmp_path: Path, palette: list[int] | None) -> None:
    folder = make(tmp_path, palette=palette)
    names = ["_background_", *"abcdefg", "cat", "i", "j", "k", "dog"]
    (folder / "class_names.txt").write_text("\n".join(["__ignore__", *names]))
    data = open_data(folder)
    check(data)
    assert data.classes == tuple(names[1:])


def test_grey_pictures(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for place, numbers in (("SegmentationObject", OBJECTS), ("SegmentationClass", CLASSES)):
        for name in ("a_1", "b_2"):
            save(folder / place / f"{name}.png", numbers, None)
    check(open_data(folder))


@pytest.mark.parametrize("colour", [True, False])
def test_a_label_map_says_what_colours_mean(tmp_path: Path, colour: bool) -> None:
    """As CVAT writes it, where the background may have a colour, too."""
    palette = voc_palette()
    folder = make(tmp_path, palette=palette, colour=colour)
    cat, dog = (",".join(map(str, palette[3 * number : 3 * number + 3])) for number in (8, 12))
    (folder / "labelmap.txt").write_text(
        f"# label:color_rgb:parts:actions\nhund:{dog}::\nbackground:0,0,0::\nkatze:{cat}::"
    )
    data = open_data(folder)
    check(data, ("katze", "hund"))
    assert data.classes == ("hund", "katze")


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


BAD = [
    (remove("SegmentationClass/a_1.png"), "a_1.png: no such file; add it or remove the name from the list"),
    (remove("JPEGImages/a_1.jpg"), "a_1: no picture"),
    (write("SegmentationObject/a_1.png", "x"), "a_1.png: not an image"),
    (write("labelmap.txt", "cat:1,2"), "is not name:red,green,blue:…"),
    (write("labelmap.txt", "cat:1,2,300"), "is not name:red,green,blue:…"),
    (write("labelmap.txt", "background:0,0,0"), "names no class but the background"),
    (write("labelmap.txt", "cow:1,2,3"), "object 1: 8 is not a class; add it to labelmap.txt"),
    (write("class_names.txt", "a\na"), "a is listed twice"),
    (lambda folder: save(folder / "SegmentationClass/a_1.png", CLASSES[:-1], None), "the picture 14×10 (upright)"),
    (
        lambda folder: save(folder / "SegmentationClass/a_1.png", CLASSES * 0, None),
        "object 1: no pixel of it has a class",
    ),
]


@pytest.mark.parametrize(("spoil", "line"), BAD)
def test_bad_folders_are_one_line(
    tmp_path: Path, told: Told, collected: list[Finding], spoil: Callable[[Path], Any], line: str
) -> None:
    folder = make(tmp_path, {"train": "a_1"})
    spoil(folder)
    said = told(open_data, folder)
    assert line in said
    if "labelmap" not in said and "twice" not in said:
        open_data(folder, report=collected.append)
        assert str(collected[0]) == said


def test_folders_that_are_missing(tmp_path: Path, told: Told) -> None:
    folder = make(tmp_path)
    (folder / "SegmentationClass").rename(folder / "gone")
    assert f"{folder / 'SegmentationClass'}: no such folder; Pascal VOC has" in told(open_data, folder)
    (folder / "JPEGImages").rename(tmp_path / "moved")
    assert f"{folder / 'JPEGImages'}: no such folder" in told(open_data, folder)
    (folder / "gone").rename(folder / "SegmentationClass")
    check(open_data(folder, images=tmp_path / "moved"))


def test_masks_of_pictures_that_no_list_names_are_annotation_files(tmp_path: Path) -> None:
    found: list[Finding] = []
    data = open_data(make(tmp_path, {"train": "a_1"}), report=found.append)
    kinds = sorted((it.kind, it.file.name, it.message) for it in found)
    assert kinds == [
        ("unlisted-picture", "JPEGImages", "1 pictures are in no split, for example b_2.jpg"),
        ("unread-annotations", "SegmentationClass", "1 annotation files are not read, for example b_2.png"),
        ("unread-annotations", "SegmentationObject", "1 annotation files are not read, for example b_2.png"),
    ]
    assert any("left out 1 pictures that no annotation names (JPEGImages/b_2.jpg)" in note for note in data.notes)
