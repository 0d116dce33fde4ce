"""Folders of masks and label images: every layout and number of bits, and what is wrong in one line."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from condinst.data.findings import Finding
from condinst.data.formats.masks.label_picture import cut_pieces
from condinst.data.open import list_splits, open_data
from condinst.errors import UsageError
from condinst.ops.bitmaps.rle import decode

Told = Callable[..., str]
HEIGHT, WIDTH = 12, 16
NUMBERS = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
NUMBERS[1:4, 2:6] = 1
NUMBERS[2, 3] = 0
NUMBERS[5:9, 0:3] = 2
NUMBERS[5:7, 10:16] = 300  # in two parts
NUMBERS[10, 15] = 300


def save(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def picture(path: Path) -> None:
    save(path, np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))


def label_images(folder: Path, labels: str = "labels/a.png", numbers: NDArray[Any] = NUMBERS) -> Path:
    picture(folder / "images" / "a.png")
    save(folder / labels, numbers.astype(np.uint16) if numbers.dtype == np.int64 else numbers)
    return folder


def masks(folder: Path, own: bool = True) -> Path:
    """One folder for each picture, or one for all pictures and one for all masks."""
    picture(folder / ("a/images/a.png" if own else "images/a.png"))
    for number in (1, 2, 300):
        save(folder / ("a/masks" if own else "masks/a") / f"{number}.png", ((number == NUMBERS) * 255).astype(np.uint8))
    return folder


def check(data: Any, order: tuple[int, ...] = (1, 2, 300)) -> None:
    """The objects of NUMBERS, in the order of their numbers or of their masks' names."""
    (sample,) = data.samples
    for instance, number in zip(sample.instances, order, strict=True):
        assert (decode(instance.shape.whole(HEIGHT, WIDTH)) == (number == NUMBERS)).all()
        (top, left), (bottom, right) = np.argwhere(number == NUMBERS).min(0), np.argwhere(number == NUMBERS).max(0) + 1
        assert instance.box == (left, top, right, bottom)


@pytest.mark.parametrize("folder", ["labels", "masks"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a_mask.png", "a_labels.tiff"])
def test_label_images(tmp_path: Path, folder: str, name: str) -> None:
    data = open_data(label_images(tmp_path, f"{folder}/{name}"))
    check(data)
    assert (data.classes, data.category_ids, data.notes) == (("object",), (1,), ())
    assert (data.samples[0].path, data.samples[0].image_id) == (tmp_path / "images" / "a.png", 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32), ("a.tif", np.float32), ("a.tif", np.uint32)],
)
def test_bits_of_label_images(tmp_path: Path, name: str, kind: Any) -> None:
    numbers = NUMBERS.copy()
    numbers[numbers == 300] = 300 if kind == np.uint16 else 70_000
    folder = label_images(tmp_path, f"labels/{name}", NUMBERS)
    (folder / "labels" / name).unlink()
    if kind == np.uint32:
        Image.fromarray(numbers.astype(np.int32)).save(folder / "labels" / name)
    else:
        save(folder / "labels" / name, numbers.astype(kind))
    check(open_data(folder))


def test_numbers_over_two_thousand_million(tmp_path: Path) -> None:
    """As hashes are; Pillow takes 32 bits for numbers with a sign even where the TIFF says that they have none."""
    folder = label_images(tmp_path, "labels/a.tif", NUMBERS)
    high = np.where(NUMBERS > 0, NUMBERS + 3_000_000_000, 0).astype(np.uint32)
    file = folder / "labels" / "a.tif"
    Image.fromarray(high.view(np.int32)).save(file)
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))
    content = file.read_bytes()
    assert content.count(signed) == 1
    file.write_bytes(content.replace(signed, unsigned))
    check(open_data(folder))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "1"])
def test_eight_bits_grey_palette_and_grey_as_colour(tmp_path: Path, mode: str) -> None:
    folder = label_images(tmp_path)
    grey = Image.fromarray(np.where(NUMBERS == 300, 255, NUMBERS).astype(np.uint8))
    if mode == "P":
        grey.putpalette(list(range(256)) * 3)
    grey = grey.point(lambda value: 255 * (value == 255)).convert("1") if mode == "1" else grey
    (grey.convert("RGB") if mode == "RGB" else grey).save(folder / "labels" / "a.png")
    data = open_data(folder)
    check(data, (300,) if mode == "1" else (1, 2, 300))


def test_label_images_with_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        label_images(tmp_path / "below" / split)
        picture(tmp_path / "beside" / "images" / split / "a.png")
        save(tmp_path / "beside" / "masks" / split / "a.png", NUMBERS.astype(np.uint16))
    for layout in ("below", "beside"):
        assert list_splits(tmp_path / layout) == ("train", "val")
        for split in ("train", "val"):
            check(open_data(tmp_path / layout, split))


@pytest.mark.parametrize("own", [True, False])
def test_mask_folders(tmp_path: Path, own: bool) -> None:
    data = open_data(masks(tmp_path, own))
    check(data, (1, 2, 300))
    assert data.classes == ("object",)
    assert list_splits(tmp_path) == ()


def test_mask_folders_with_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        masks(tmp_path / "own" / split)
        picture(tmp_path / "plain" / "images" / split / "a.png")
        shutil.copytree(tmp_path / "own" / split / "a" / "masks", tmp_path / "plain" / "masks" / split / "a")
    for layout in ("own", "plain"):
        assert list_splits(tmp_path / layout) == ("train", "val")
        check(open_data(tmp_path / layout, "val"))


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "I;16"])
def test_pixels_of_masks(tmp_path: Path, mode: str) -> None:
    """Not black is the object, as a program may save a mask in colour or with one bit."""
    folder = masks(tmp_path)
    for file in (folder / "a" / "masks").iterdir():
        pixels = np.asarray(Image.open(file))
        image = Image.fromarray(pixels.astype(np.uint16)) if mode == "I;16" else Image.open(file).convert(mode)
        image.save(file)
    check(open_data(folder))


def test_a_class_by_a_list_or_by_folders(tmp_path: Path, told: Told) -> None:
    (tmp_path / "classes.txt").write_bytes("\ufeffZellkern Ä\r\n".encode())
    for layout in (masks(tmp_path / "one"), label_images(tmp_path / "two")):
        assert open_data(layout).classes == ("Zellkern Ä",)
        (layout / "classes.txt").write_text("cat\ndog\n")
        line = told(open_data, layout)
        assert line.startswith(f"{layout / 'classes.txt'}: names other classes than {tmp_path / 'classes.txt'}")
    (tmp_path / "classes.txt").unlink()
    assert "the data set has 2 classes, and the file states none; put it into a folder" in told(
        open_data, tmp_path / "one"
    )
    assert "names 2 classes, but label images only number objects" in told(open_data, tmp_path / "two")
    place = tmp_path / "one" / "a" / "masks"
    for name, label in (("1", "dog"), ("2", "cat"), ("300", "dog")):
        (place / label).mkdir(exist_ok=True)
        (place / f"{name}.png").rename(place / label / f"{name}.png")
    data = open_data(tmp_path / "one")
    check(data, (2, 1, 300))  # by the masks' paths
    assert [data.classes[each.label] for each in data.samples[0].instances] == ["cat", "dog", "dog"]
    (place / "dog").rename(place / "cow")
    assert "its folder cow is not a class; add it to classes.txt" in told(open_data, tmp_path / "one")
    for text, line in ((b"", "classes.txt: empty"), (b"a\na", "a is listed twice"), (b"\xff", "not UTF-8")):
        (tmp_path / "two" / "classes.txt").write_bytes(text)
        assert line in told(open_data, tmp_path / "two")


def test_pictures_without_objects(tmp_path: Path) -> None:
    folder = masks(tmp_path / "one")
    picture(folder / "b" / "images" / "b.png")
    (folder / "b" / "masks").mkdir()
    save(folder / "a" / "masks" / "empty.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    data = open_data(folder)
    assert [len(sample.instances) for sample in data.samples] == [3, 0]
    assert data.notes == (f"{folder}: left out 1 objects whose box or mask covers no pixel",)
    folder = label_images(tmp_path / "two")
    picture(folder / "images" / "b.png")
    save(folder / "labels" / "b.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    assert [len(sample.instances) for sample in open_data(folder).samples] == [3, 0]


def test_masks_whose_picture_is_missing(tmp_path: Path, told: Told) -> None:
    masks(tmp_path / "m", own=False)
    (tmp_path / "m" / "masks" / "empty").mkdir()  # of a picture without objects: nothing is lost
    check(open_data(tmp_path / "m"))
    lost = tmp_path / "m" / "masks" / "b"
    shutil.copytree(tmp_path / "m" / "masks" / "a", lost)
    told_of = "no picture of this name in {}; put it there or remove the file"
    assert told(open_data, tmp_path / "m") == f"{lost}: " + told_of.format(tmp_path / "m" / "images")

    label_images(tmp_path / "l")
    lost = tmp_path / "l" / "labels" / "b_mask.png"
    save(lost, NUMBERS.astype(np.uint16))
    assert told(open_data, tmp_path / "l") == f"{lost}: " + told_of.format(tmp_path / "l" / "images")


def test_one_number_for_all_objects_is_told(tmp_path: Path, collected: list[Finding]) -> None:
    data = open_data(label_images(tmp_path, numbers=((NUMBERS > 0) * 255).astype(np.uint8)), report=collected.append)
    assert "each label image holds a single number" in data.notes[0]
    assert [(finding.kind, finding.severity) for finding in collected] == [("binary-labels", "warning")]


def jpeg(folder: Path) -> None:
    (folder / "a" / "masks" / "1.png").unlink()
    save(folder / "a" / "masks" / "1.jpg", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))


def text(folder: Path) -> None:
    (folder / "a" / "masks" / "notes.txt").write_text("x")


def cut(folder: Path) -> None:
    file = folder / "a" / "masks" / "1.png"
    file.write_bytes(file.read_bytes()[:-30])


def small(folder: Path) -> None:
    save(folder / "a" / "masks" / "1.png", np.ones((WIDTH, HEIGHT), dtype=np.uint8))


def large(folder: Path) -> None:
    save(folder / "a" / "masks" / "1.png", np.ones((1000, 1000), dtype=np.uint8))


def two(folder: Path) -> None:
    picture(folder / "a" / "images" / "b.png")


def none(folder: Path) -> None:
    (folder / "a" / "images" / "a.png").rename(folder / "a" / "images" / "a.txt")


def bare(folder: Path) -> None:
    picture(folder / "b" / "images" / "b.png")


BAD_MASKS = [
    (jpeg, "1.jpg: not a lossless picture; save it again as PNG or TIFF"),
    (text, "notes.txt: not a lossless picture"),
    (cut, "1.png: damaged image"),
    (small, "1.png: has 12×16 pixels, its picture 16×12 (upright)"),
    (large, "1.png: 1000×1000 = 1,000,000 pixels is over the limit of 192"),
    (two, "expected one picture in images/, got a.png, b.png"),
    (none, "expected one picture in images/, got none"),
    (bare, "no folder"),
]


@pytest.mark.parametrize(("spoil", "line"), BAD_MASKS, ids=[spoil.__name__ for spoil, _ in BAD_MASKS])
def test_bad_mask_folders_are_one_line_or_left_out(
    tmp_path: Path, told: Told, collected: list[Finding], spoil: Callable[[Path], None], line: str
) -> None:
    spoil(masks(tmp_path))
    said = told(open_data, tmp_path)
    assert line in said
    open_data(tmp_path, report=collected.append)
    others = [str(finding) for finding in collected if finding.kind != "unlisted-picture"]
    assert others == [said]


BAD_NUMBERS = [
    ("a.png", np.stack([NUMBERS, NUMBERS * 2, NUMBERS], axis=2).astype(np.uint8), "colours (RGB) are no numbers"),
    ("a.tif", NUMBERS.astype(np.int32) - 1, "holds negative numbers"),
    ("a.tif", NUMBERS.astype(np.float32) / 2, "holds fractions, not numbers"),
    ("a.tif", np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32), "holds fractions, not numbers"),
    ("a.png", NUMBERS[:-1].astype(np.uint16), "has 16×11 pixels, the picture 16×12 (upright)"),
    ("a.png", np.zeros((900, 900), dtype=np.uint8), "is over the limit of 192"),
    ("b.png", NUMBERS.astype(np.uint16), "no label image in"),
]


@pytest.mark.parametrize(("name", "numbers", "line"), BAD_NUMBERS)
def test_bad_label_images_are_one_line(tmp_path: Path, told: Told, name: str, numbers: NDArray[Any], line: str) -> None:
    assert line in told(open_data, label_images(tmp_path, f"labels/{name}", numbers))


def test_more_refusals(tmp_path: Path, told: Told) -> None:
    folder = label_images(tmp_path)
    with pytest.raises(UsageError, match="the pictures lie beside their masks; leave the option out"):
        open_data(folder, images=tmp_path)
    save(folder / "labels" / "a.tif", NUMBERS.astype(np.uint16))
    assert "expected one label image, got a.png, a.tif; leave one" in told(open_data, folder)
    (folder / "labels" / "a.tif").unlink()
    pages = [Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 1)]
    (folder / "labels" / "a.png").unlink()
    pages[0].save(folder / "labels" / "a.tif", save_all=True, append_images=pages[1:])
    assert "a.tif: holds 2 pictures; save a file with the intended picture only" in told(open_data, folder)
    save(folder / "masks" / "a.png", NUMBERS.astype(np.uint16))
    assert "labels/ and masks/ both hold label images; keep one of them" in told(open_data, folder)


@pytest.mark.parametrize(("orientation", "turns"), [(6, -1), (8, 1)])
def test_masks_are_of_the_upright_picture(tmp_path: Path, told: Told, orientation: int, turns: int) -> None:
    folder = label_images(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png", exif=exif)
    assert "has 16×12 pixels, the picture 12×16 (upright)" in told(open_data, folder)
    save(folder / "labels" / "a.png", np.rot90(NUMBERS, turns).astype(np.uint16))
    (sample,) = open_data(folder).samples
    assert (sample.height, sample.width) == (WIDTH, HEIGHT)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**31))
def test_pieces_are_every_numbers_pixels(height: int, width: int, most: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, most, (height, width))
    pieces = cut_pieces(numbers)
    assert [piece.number for piece in pieces] == [value for value in np.unique(numbers).tolist() if value]
    for piece in pieces:
        whole = np.zeros((height, width), dtype=bool)
        whole[piece.y : piece.y + piece.mask.shape[0], piece.x : piece.x + piece.mask.shape[1]] = piece.mask
        assert (whole == (numbers == piece.number)).all()
        assert piece.mask.any(0)[[0, -1]].all()
        assert piece.mask.any(1)[[0, -1]].all()


def test_real_nuclei_as_they_were_published(tmp_path: Path, sets: Path, truth: Any, drawn: Any, same: Any) -> None:
    """A folder for each picture with a PNG for each nucleus, and as one 16-bit picture for each."""
    coco, expected = truth("nuclei", "train")
    for number, image in coco.imgs.items():
        stem = Path(image["file_name"]).stem
        whole = np.zeros((image["height"], image["width"]), dtype=np.uint16)
        for place in (tmp_path / "own" / stem / "images", tmp_path / "labelled" / "images"):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(sets / "nuclei" / "images" / image["file_name"], place)
        for index, each in enumerate(coco.imgToAnns[number], 1):
            mask = coco.annToMask(each)
            save(tmp_path / "own" / stem / "masks" / f"{each['id']}.png", mask * np.uint8(255))
            whole[mask > 0] = index
        save(tmp_path / "labelled" / "labels" / f"{stem}.png", whole)
    expected = {stem: [("object", mask) for _, mask in objects] for stem, objects in expected.items()}
    same(drawn(open_data(tmp_path / "own")), expected)
    same(drawn(open_data(tmp_path / "labelled")), expected)  # nuclei do not overlap
