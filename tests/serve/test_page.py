"""The page with a real server, in headless Chromium: what it shows and writes equals the result of a Predictor."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import decode
from condinst.predictor import Predictor
from tests.serve.browser import Tab
from tests.serve.running import NUCLEI, Running


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor("nuclei", device="cpu")


@pytest.fixture(scope="session")
def everything(predictor: Predictor) -> Result:
    """All instances of the picture of which the page knows."""
    return predictor(NUCLEI, conf=0.05)


@pytest.fixture
def page(tab: Tab, server: Running) -> Tab:
    tab.open(server.address)
    return tab


def above(result: Result, conf: float) -> Result:
    """The instances of a threshold. The server rounds scores to four decimals."""
    return result[np.round(np.asarray(result.conf), 4) >= conf]


def owners(result: Result) -> NDArray[Any]:
    """The number of the best instance at each pixel, counted from 1."""
    return result.label_image().astype(int)


def inner_point(owned: NDArray[Any], number: int) -> tuple[float, float]:
    """A point well inside the visible part of an instance, as (x, y)."""
    from scipy.ndimage import distance_transform_edt

    deep = distance_transform_edt(owned == number)
    row, column = np.unravel_index(deep.argmax(), deep.shape)
    return column + 0.5, row + 0.5


def test_masks_threshold_and_click(page: Tab, everything: Result) -> None:
    page.add(NUCLEI)
    shown = above(everything, 0.5)
    assert 10 < len(shown) < len(everything)
    assert page.text("count") == f"{len(shown)} of {len(everything)}"

    owned = owners(shown)
    x, y = inner_point(owned, 1)
    assert page.pixel("masks", x, y)[3] > 80
    assert page.pixel("picture", x, y)[3] == 255
    outside = inner_point(owned, 0)
    assert page.pixel("masks", *outside) == [0, 0, 0, 0]

    page.click_at(x, y)
    best = shown[0]
    assert page.text("one-score") == f"{round(float(best.conf[0]), 4):.3f}"
    assert page.text("one-area") == f"{int(best.masks.areas[0]):,} px"
    assert page.text("one-name") == "nucleus"
    page.click_at(*outside)
    assert not page.find("#one").is_displayed()

    asked = page.requests()
    score = round(float(shown.conf[len(shown) // 2]), 4)
    page.threshold(np.ceil(score * 100) / 100)
    fewer = above(everything, np.ceil(score * 100) / 100)
    assert page.text("count") == f"{len(fewer)} of {len(everything)}"
    gone = inner_point(owned, len(shown))
    assert page.pixel("masks", *gone)[3] == 0
    page.threshold(0.5)
    assert page.pixel("masks", *gone)[3] > 80
    assert page.requests() == asked


def test_downloads_hold_what_is_shown(page: Tab, predictor: Predictor, everything: Result) -> None:
    page.add(NUCLEI)
    page.threshold(0.7)
    shown, stem = above(everything, 0.7), NUCLEI.stem
    wanted = shown.to_coco()

    coco = json.loads(page.download("coco", f"{stem}.coco.json"))
    assert coco["images"] == [{"id": 1, "file_name": NUCLEI.name, "width": 256, "height": 256}]
    assert coco["categories"] == [{"id": 1, "name": "nucleus"}]
    assert [one["segmentation"] for one in coco["annotations"]] == [one["segmentation"] for one in wanted]
    assert [one["id"] for one in coco["annotations"]] == list(range(1, len(wanted) + 1))
    np.testing.assert_allclose(
        [one["bbox"] for one in coco["annotations"]], [one["bbox"] for one in wanted], atol=0.006
    )

    labelme = json.loads(page.download("labelme", f"{stem}.json"))
    same_document(labelme, shown.to_labelme(NUCLEI.name))

    rows = list(csv.DictReader(io.StringIO(page.download("csv", f"{stem}.csv").decode())))
    expected = list(csv.DictReader(io.StringIO(shown.to_csv())))
    exact = ("score", "label", "name", "area")
    assert [[row[key] for key in exact] for row in rows] == [[row[key] for key in exact] for row in expected]
    corners = [[[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in table] for table in (rows, expected)]
    np.testing.assert_allclose(*corners, atol=0.011)  # the sum of a rounded edge and a rounded width

    labels = Image.open(io.BytesIO(page.download("labels", f"{stem}-labels.png")))
    assert labels.mode == "I;16"
    assert (np.asarray(labels) == owners(shown)).all()

    overlay = np.asarray(Image.open(io.BytesIO(page.download("overlay", f"{stem}-overlay.png"))).convert("RGB"))
    picture, owned = shown.orig_img.astype(int), owners(shown)
    changed = (overlay.astype(int) != picture).any(axis=2)
    assert changed[owned > 0].mean() > 0.99
    near = np.asarray(Image.fromarray((owned > 0).astype(np.uint8)).resize((256, 256))) > 0
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        near |= np.roll(owned > 0, shift, axis=(0, 1))  # outlines are soft on their outside
    assert not changed[~near].any()


def same_document(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare labelme documents; the PNG files of masks pixel by pixel."""
    pairs = list(zip(found.pop("shapes"), wanted.pop("shapes"), strict=True))
    assert found == wanted
    for one, other in pairs:
        masks = [part.pop("mask") for part in (one, other)]
        assert one == other
        if masks[1] is not None:
            pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(mask)))) for mask in masks]
            assert (pixels[0] == pixels[1]).all()


def test_a_damaged_picture_does_not_stop_the_others(page: Tab, predictor: Predictor, tmp_path: Path) -> None:
    damaged, second = tmp_path / "damaged.png", tmp_path / "second" / NUCLEI.name
    damaged.write_bytes(NUCLEI.read_bytes()[:2000])
    second.parent.mkdir()
    flipped = Image.open(NUCLEI).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    flipped.save(second)
    page.add(NUCLEI, damaged, second)
    assert page.run("return document.querySelectorAll('.chip.bad').length") == 1

    page.click("li:nth-child(2) .thumb")
    line = page.text("notice-text")
    assert "damaged" in line or "truncated" in line
    assert "\n" not in line

    coco = json.loads(page.download("coco", "condinst.coco.json", everything=True))
    results = [predictor(NUCLEI, conf=0.5), predictor(second, conf=0.5)]
    assert [image["file_name"] for image in coco["images"]] == [NUCLEI.name, f"{NUCLEI.stem}-2.png"]
    counts = [sum(one["image_id"] == number for one in coco["annotations"]) for number in (1, 2)]
    assert counts == [len(result) for result in results]

    archive = zipfile.ZipFile(io.BytesIO(page.download("labelme", "condinst-labelme.zip", everything=True)))
    assert archive.testzip() is None
    assert archive.namelist() == [f"{NUCLEI.stem}.json", f"{NUCLEI.stem}-2.json"]
    shapes = [len(json.loads(archive.read(name))["shapes"]) for name in archive.namelist()]
    assert shapes == [len(result.to_labelme(NUCLEI.name)["shapes"]) for result in results]

    table = page.download("csv", "condinst.csv", everything=True).decode().splitlines()
    assert table[0] == "file,page,class,score,x1,y1,x2,y2,area"
    assert len(table) == 1 + sum(counts)


def test_a_picture_that_the_browser_cannot_show(page: Tab, everything: Result, tmp_path: Path) -> None:
    tiff = tmp_path / "wide.tif"
    grey = np.asarray(Image.open(NUCLEI).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tiff)
    page.add(tiff)
    page.wait("return document.querySelector('#notice-text').textContent.includes('cannot show')")
    page.settle()
    bright = np.unravel_index(grey.argmax(), grey.shape)
    assert page.pixel("picture", bright[1] + 0.5, bright[0] + 0.5)[3] == 255
    assert page.pixel("picture", bright[1] + 0.5, bright[0] + 0.5)[0] > 100
    labels = np.asarray(Image.open(io.BytesIO(page.download("labels", "wide-labels.png"))))
    x, y = inner_point(labels.astype(int), 1)
    assert page.pixel("masks", x, y)[3] > 80


def test_a_turned_picture(page: Tab, tmp_path: Path) -> None:
    """Browser and server turn a picture by its EXIF orientation in the same way."""
    turned = tmp_path / "turned.jpg"
    picture = Image.open(NUCLEI).convert("RGB").crop((0, 0, 256, 160))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(turned, quality=95, exif=exif)
    page.add(turned)
    assert page.text("size") == "256 × 160"
    assert not page.find("#notice").is_displayed()
    coco = json.loads(page.download("coco", "turned.coco.json"))
    pixels = np.asarray(picture)[..., 0].astype(int)
    masks = [decode(one["segmentation"]) for one in coco["annotations"]]
    inside = np.any(masks, axis=0)
    assert pixels[inside].mean() > 2 * pixels[~inside].mean()  # bright nuclei on a dark ground
    row, column = np.unravel_index(np.where(inside, pixels, 0).argmax(), pixels.shape)
    shown = page.pixel("picture", column + 0.5, row + 0.5)
    assert abs(shown[0] - pixels[row, column]) < 25
