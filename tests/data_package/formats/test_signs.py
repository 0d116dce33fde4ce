"""Masks that do not say which pixels belong to which object are told, and real ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condinst.data.findings import Finding
from condinst.data.formats.masks.label_picture import cut_pieces, read_numbers
from condinst.data.formats.masks.signs import LabelSigns, MaskSigns
from condinst.data.open import list_splits, open_data
from condinst.ops.bitmaps.rle import decode

REAL = Path(__file__).parent.parent.parent / "data"
SIZE = (120, 160)


def squares(numbers: list[int]) -> NDArray[np.uint8]:
    """Eight squares in two rows, numbered in turn."""
    image = np.zeros(SIZE, dtype=np.uint8)
    for index in range(8):
        top, left = 5 + 55 * (index // 4), 5 + 35 * (index % 4)
        image[top : top + 25, left : left + 25] = numbers[index % len(numbers)]
    return image


def label_set(folder: Path, labels: list[NDArray[np.uint8]]) -> list[Finding]:
    """What reading a data set of these label images tells."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, image in enumerate(labels):
        Image.new("RGB", image.shape[::-1]).save(folder / "images" / f"{number}.png")
        Image.fromarray(image).save(folder / "labels" / f"{number}.png")
    found: list[Finding] = []
    data = open_data(folder, report=found.append)
    assert all(any(str(finding) in note for note in data.notes) for finding in found)
    return found


def mask_set(folder: Path, masks: list[Image.Image]) -> list[Finding]:
    (folder / "images").mkdir(parents=True)
    (folder / "masks" / "a").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(folder / "images" / "a.png")
    for number, mask in enumerate(masks):
        mask.save(folder / "masks" / "a" / f"{number}.png")
    found: list[Finding] = []
    open_data(folder, report=found.append)
    return found


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [([1], ["binary-labels"]), ([1, 2], ["class-labels"]), ([1, 2, 3], ["class-labels"]), (list(range(1, 9)), [])],
)
def test_numbers_of_classes(numbers: list[int], kinds: list[str], tmp_path: Path) -> None:
    assert [finding.kind for finding in label_set(tmp_path, [squares(numbers)] * 3)] == kinds


@pytest.mark.parametrize("scale", [1.5, 2, 4])
@pytest.mark.parametrize("numbers", [[120, 240], [1, 2, 3, 4, 5, 6, 7, 8], [30, 60, 90, 120, 150, 180, 210, 240]])
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
def test_interpolation(scale: float, numbers: list[int], resample: Image.Resampling, tmp_path: Path) -> None:
    image = squares([*numbers, *range(100, 108 - len(numbers))])
    size = round(SIZE[1] * scale), round(SIZE[0] * scale)
    large = np.asarray(Image.fromarray(image).resize(size, resample))
    if numbers[0] == 1 and resample != Image.Resampling.NEAREST:
        large = np.maximum(large, 0)
    kinds = [finding.kind for finding in label_set(tmp_path, [large])]
    assert kinds == ([] if resample == Image.Resampling.NEAREST else ["interpolated-labels"])


def test_all_of_a_large_set_is_sampled() -> None:
    """250 good label images, then 250 interpolated ones: the first hundred alone would tell nothing."""
    good = squares([120, 240])
    size = (2 * SIZE[1], 2 * SIZE[0])
    bad = np.asarray(Image.fromarray(good).resize(size, Image.Resampling.BILINEAR))
    signs = LabelSigns(500)
    for image in [good] * 250 + [bad] * 250:
        signs.look(image.astype(np.int64), cut_pieces(image.astype(np.int64)))
    assert signs.looked_at == 100
    (finding,) = signs.findings(Path("labels"))
    assert finding.kind == "interpolated-labels"
    assert finding.message.endswith("(100 of 500 label images checked)")


def test_inverted_labels_and_masks(tmp_path: Path) -> None:
    inverted = squares(list(range(1, 9)))
    inverted = np.where(inverted == 0, 255, inverted).astype(np.uint8)
    assert [finding.kind for finding in label_set(tmp_path / "labels", [inverted] * 2)] == ["inverted-masks"]
    mask = Image.fromarray(np.where(squares([1]) == 0, 255, 0).astype(np.uint8))
    assert [finding.kind for finding in mask_set(tmp_path / "masks", [mask])] == ["inverted-masks"]


def test_noise_of_compression_is_told(tmp_path: Path) -> None:
    mask = Image.fromarray(np.where(squares([1]) > 0, 255, 0).astype(np.uint8))
    mask.save(tmp_path / "a.jpg", quality=60)
    found = mask_set(tmp_path / "set", [Image.open(tmp_path / "a.jpg").convert("L"), mask])
    assert [(finding.kind, finding.message) for finding in found] == [
        ("grey-masks", "1 of 2 masks hold several values besides 0")
    ]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 10, 10)])
def test_a_mask_may_be_drawn_by_its_transparency(colour: tuple[int, int, int], tmp_path: Path) -> None:
    inside = squares([1]) > 0
    pixels = np.concatenate((np.full((*SIZE, 3), colour), np.where(inside, 255, 0)[..., None]), axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    assert ((read_numbers(tmp_path / "a.png", "a.png", inside.size, colours=True) > 0) == inside).all()


@pytest.mark.parametrize("name", ["coco_mini", "facade", "mushrooms", "nuclei"])
def test_real_objects_raise_no_alarm(name: str) -> None:
    labels, masks = LabelSigns(1), MaskSigns()
    for split in list_splits(REAL / name) or ("train",):
        for sample in open_data(REAL / name, split).samples[:8]:
            numbers = np.zeros((sample.height, sample.width), dtype=np.int64)
            shapes = [one.shape for one in sample.instances if one.shape is not None]
            for number, shape in enumerate(shapes, 1):
                mask = decode(shape.whole(sample.height, sample.width)).astype(np.bool_)
                numbers[mask] = number
                masks.look(mask.astype(np.int64))
            labels.look(numbers, cut_pieces(numbers))
    assert labels.looked_at
    assert [*labels.findings(REAL), *masks.findings(REAL)] == []
