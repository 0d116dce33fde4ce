"""`--pages` and `--range`: every page of a stack has its result; a range says what wide pictures show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

import condinst
from condinst.data.open import open_data
from condinst.data.pictures.image import read_picture
from condinst.data.pictures.pages import note_pages, parse_pages
from condinst.errors import DataError, UsageError
from condinst.predictor import Predictor
from condinst.sources.places import Source, expand_sources

NUCLEI = sorted((Path(__file__).parent.parent / "data" / "nuclei" / "images").glob("*.png"))[:3]
PICTURES = [np.asarray(Image.open(path).convert("L").resize((96, 64))) for path in NUCLEI]
Run = Callable[..., Result]


def stack(path: Path, pages: list[NDArray[Any]], **options: object) -> Path:
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.fixture
def go(run: Run, model_folder: Path) -> Run:
    def with_model(*words: object, **options: Any) -> Result:
        outcome = run("predict", "--model", model_folder, "--device", "cpu", *words, **options)
        assert "Traceback" not in outcome.output
        return outcome

    return with_model


def test_every_page_of_a_stack_has_its_result_and_overlay(go: Run, model_folder: Path, tmp_path: Path) -> None:
    file, out = stack(tmp_path / "a.tif", PICTURES), tmp_path / "out"
    outcome = go(file, "--out", out)
    assert outcome.exit_code == 0, outcome.output
    document = json.loads((out / "results.json").read_text())
    assert [(image["file_name"], image["page"]) for image in document["images"]] == [(str(file), n) for n in (1, 2, 3)]
    assert {"a-page1.png", "a-page2.png", "a-page3.png"} <= {path.name for path in out.iterdir()}
    predictor = Predictor(model_folder, device="cpu")
    for number, pixels in enumerate(PICTURES, 1):
        alone = predictor(np.repeat(pixels[:, :, None], 3, axis=2))
        assert predictor(condinst.Page(file, number)).masks.rle == alone.masks.rle
        found = [it["segmentation"] for it in document["annotations"] if it["image_id"] == number]
        assert found == [dict(rle) for rle in alone.masks.rle]


def test_pages_are_chosen_and_the_others_are_told(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.tif", PICTURES)
    for text, pages in (("1,3", [1, 3]), ("2-9", [2, 3]), ("all", [1, 2, 3])):
        found = expand_sources([str(file)], parse_pages(text))
        assert found.sources == [Source(file, page) for page in pages]
        assert bool(found.notes) == (len(pages) < 3)
    assert "holds 3 pages; 2 of them are read (--pages 1,3)" in expand_sources([str(file)], parse_pages("1,3")).notes[0]
    assert expand_sources([str(file)], parse_pages("first")).sources == [Source(file)]
    assert expand_sources([str(file)], parse_pages("7")).failures == [
        f"{file}: has none of the pages 7; its last page is 3"
    ]
    assert expand_sources([str(NUCLEI[0])], parse_pages("7")).sources == [Source(NUCLEI[0])]  # a single picture


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.mpo"])
def test_the_first_of_an_animation_is_read_and_the_others_are_counted(name: str, go: Run, tmp_path: Path) -> None:
    file = stack(tmp_path / name, [np.repeat(page[:, :, None], 3, axis=2) for page in PICTURES])
    outcome = go(file, "--json")
    assert len(json.loads(outcome.stdout)["images"]) == 1
    assert f"note: {file}: holds 3 " in outcome.stderr
    assert len(json.loads(go(file, "--json", "--pages", "all").stdout)["images"]) == 3


def test_smaller_copies_are_not_pages(tmp_path: Path) -> None:
    whole, half = Image.fromarray(PICTURES[0]), Image.fromarray(PICTURES[0][::2, ::2].copy())
    half.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "pyramid.tif", save_all=True, append_images=[half])
    found = expand_sources([str(tmp_path / "pyramid.tif")])
    assert [source.page for source in found.sources] == [1]
    assert "left out 1 of 2 pages, because they are smaller copies" in found.notes[0]


def test_an_ome_tiff_says_what_its_pages_are(tmp_path: Path) -> None:
    description = '<OME><Image><Pixels SizeC="3" SizeZ="1" SizeT="1"/></Image></OME>'
    file = stack(tmp_path / "a.ome.tif", PICTURES, tiffinfo={270: description})
    remark = read_picture(file).remarks[0]
    assert remark.message == "holds 3 pages (OME-TIFF of 3 channels); the first is read"


def test_a_page_without_its_pixels_costs_that_page(go: Run, tmp_path: Path) -> None:
    file = stack(tmp_path / "a.tif", PICTURES)
    whole = bytearray(file.read_bytes())
    with Image.open(file) as image:
        image.seek(1)
        strip = image.tag_v2[273][0]
    place = whole.index(strip.to_bytes(4, "little"), image.tag_v2.offset)
    whole[place : place + 4] = (2**31 - 1).to_bytes(4, "little")  # far beyond the end of the file
    file.write_bytes(whole)
    outcome = go(file, "--json")
    assert outcome.exit_code == 3
    assert [image["page"] for image in json.loads(outcome.stdout)["images"]] == [1, 3]
    assert f"left out: {file} page 2: damaged image" in outcome.stderr


@pytest.mark.parametrize("text", ["0", "3-1", "", "a", "1,", "-1", "1-", "99999999999"])
def test_bad_pages_are_one_line(text: str, go: Run) -> None:
    with pytest.raises(UsageError, match="--pages: expected"):
        parse_pages(text)
    assert go(NUCLEI[0], f"--pages={text}").exit_code == 2


def test_dark_pictures_are_told_and_a_range_finds_what_8_bits_find(go: Run, tmp_path: Path) -> None:
    eight, wide = tmp_path / "8.png", tmp_path / "12.png"
    Image.fromarray(PICTURES[0]).save(eight)
    Image.fromarray(np.rint(PICTURES[0] * (4095 / 255)).astype(np.uint16)).save(wide)
    Image.fromarray((PICTURES[0] / 255).astype(np.float32)).save(tmp_path / "float.tif")

    def found(file: Path, *words: object) -> list[Any]:
        outcome = go(file, "--json", *words)
        assert outcome.exit_code == 0, outcome.output
        return [it["segmentation"] for it in json.loads(outcome.stdout)["annotations"]]

    told = go(wide, "--json").stderr
    assert f"note: {wide}: values from " in told
    assert "--range 0,4095" in told
    assert found(eight) == found(wide, "--range", "0,4095") == found(tmp_path / "float.tif", "--range", "0,1")
    assert "--range" in go(tmp_path / "float.tif", "--json").stderr
    assert go(eight, "--range", "5,1").exit_code == 2


def test_a_predictor_keeps_its_range_for_plots(model_folder: Path, tmp_path: Path) -> None:
    Image.fromarray((PICTURES[0] / 255).astype(np.float32)).save(tmp_path / "float.tif")
    predictor = Predictor(model_folder, device="cpu", range=(0, 1))
    assert predictor.config.input.range == (0, 1)
    result = predictor(tmp_path / "float.tif")
    assert (result.orig_img[:, :, 0] == PICTURES[0]).all()
    result.save(tmp_path / "overlay.png")
    with pytest.raises(DataError, match="do not state a range"):
        Predictor(model_folder, device="cpu")(tmp_path / "float.tif")


def test_a_data_set_says_that_one_page_is_read(tmp_path: Path) -> None:
    several = stack(tmp_path / "a.tif", PICTURES)
    photo = stack(tmp_path / "b.jpg", [np.repeat(page[:, :, None], 3, axis=2) for page in PICTURES], format="MPO")
    note = note_pages([several, photo, *NUCLEI, tmp_path / "none.tif"])
    assert note == "2 picture files hold several pages (a.tif has 3); only the first of each is read"
    assert note_pages(NUCLEI) is None


def test_reading_a_data_set_notes_pages(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    stack(tmp_path / "images" / "a.tif", PICTURES)
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    document = {
        "images": [{"id": 1, "file_name": "a.tif", "width": 96, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square], "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    assert "1 picture files hold several pages (a.tif has 3)" in open_data(tmp_path).notes[-1]
