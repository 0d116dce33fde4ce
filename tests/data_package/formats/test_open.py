"""Which files a path means: every layout is found by itself, and what is not found is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.data.findings import refuse
from condinst.data.formats.coco.folders import find
from condinst.data.formats.convert import convert_data
from condinst.data.open import list_splits, open_data
from condinst.errors import DataError

Told = Callable[..., str]
NUCLEI = Path(__file__).parent.parent.parent / "data" / "nuclei"


def place(folder: Path, annotations: str, images: str, split: str = "train") -> None:
    """The small nuclei set in another layout."""
    for path in (folder / annotations, folder / images):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(NUCLEI / f"{split}.json", folder / annotations)
    shutil.copytree(NUCLEI / "images", folder / images, dirs_exist_ok=True)


def opened(data: Path, split: Any = "train", images: Path | None = None) -> tuple[Path, Path, int]:
    """(annotation file, image folder, instances)."""
    found = open_data(data, split, images)
    return found.source, found.samples[0].path.parent, sum(len(sample.instances) for sample in found.samples)


def test_own_layout(tmp_path: Path) -> None:
    place(tmp_path, "train.json", "images")
    place(tmp_path, "val.json", "images", "val")
    assert opened(tmp_path) == (tmp_path / "train.json", tmp_path / "images", 59)
    assert opened(tmp_path, "val") == (tmp_path / "val.json", tmp_path / "images", 66)
    assert opened(tmp_path / "val.json") == opened(tmp_path, "val")  # a file is what it is, whatever the split
    assert list_splits(tmp_path) == ("train", "val")
    assert list_splits(tmp_path / "val.json") == ()
    place(tmp_path / "elsewhere", "train.json", "pictures")
    assert opened(tmp_path, "train", tmp_path / "elsewhere" / "pictures")[1] == tmp_path / "elsewhere" / "pictures"


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}2014.json", "{}2014"),
        ("annotations/instances_{}.json", "images/{}"),  # CVAT's export of a task with subsets
        ("annotations/instances_{}.json", "images"),
        ("{}/_annotations.coco.json", "{}"),  # Roboflow's
        ("{}/annotations.json", "{}/images"),
        ("{}/labels.json", "{}/data"),  # FiftyOne's
        ("annotations/{}.json", "images/{}"),
        ("annotations/{}.json", "images"),
        ("annotations/{}.json", "{}"),
        ("{}.json", "images/{}"),
        ("{}.json", "{}"),
    ],
)
def test_layouts_with_splits(tmp_path: Path, annotations: str, images: str) -> None:
    """Beside other files that COCO ships, of which some begin alike."""
    spelt = {"train": "train", "val": "valid" if "roboflow" in annotations else "val"}
    for split, name in spelt.items():
        place(tmp_path, annotations.format(name), images.format(name), split)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "captions_train2017.json").touch()
    assert list_splits(tmp_path) == ("train", "val")
    for split, name in spelt.items():
        expected = tmp_path / annotations.format(name), tmp_path / images.format(name)
        assert opened(tmp_path, split)[:2] == expected
        assert opened(expected[0], split)[:2] == expected


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_default.json", "images/default"),  # CVAT's export of a task without subsets
        ("annotations/instances_default.json", "images"),
        ("annotations.json", "images"),
        ("_annotations.coco.json", "."),
        ("result.json", "images"),  # Label Studio's
        ("labels.json", "data"),  # FiftyOne's
        ("my coco.json", "."),
        ("annotations.json", "JPEGImages"),  # labelme's own conversion
        ("annotations/instances_monday.json", "images/monday"),  # CVAT's export of a subset of another name
        ("annotations/all.json", "images"),
    ],
)
def test_layouts_without_splits(tmp_path: Path, annotations: str, images: str) -> None:
    place(tmp_path, annotations, images)
    assert list_splits(tmp_path) == ()
    for split in ("train", "val"):
        assert opened(tmp_path, split) == (tmp_path / annotations, tmp_path / images, 59)


def test_cvats_capital_letters_and_roboflows_valid(tmp_path: Path) -> None:
    place(tmp_path / "cvat", "annotations/instances_Train.json", "images/Train")
    place(tmp_path / "cvat", "annotations/instances_Validation.json", "images/Validation", "val")
    place(tmp_path / "roboflow", "train/_annotations.coco.json", "train")
    place(tmp_path / "roboflow", "valid/_annotations.coco.json", "valid", "val")
    place(tmp_path / "roboflow", "test/_annotations.coco.json", "test", "val")
    assert list_splits(tmp_path / "cvat") == ("train", "val")
    assert list_splits(tmp_path / "roboflow") == ("train", "val", "test")
    assert opened(tmp_path / "cvat", "val")[1:] == (tmp_path / "cvat" / "images" / "Validation", 66)
    assert opened(tmp_path / "roboflow", "val")[1:] == (tmp_path / "roboflow" / "valid", 66)


def test_a_coco_file_of_any_name_is_the_last_resort(tmp_path: Path, told: Told) -> None:
    """Other formats come first, and other JSON does not count. Two are subsets, of which none is called train."""
    place(tmp_path, "some.json", "images")
    (tmp_path / "settings.json").write_text('{"images": 5}')
    assert opened(tmp_path)[:2] == (tmp_path / "some.json", tmp_path / "images")
    shutil.copy(tmp_path / "some.json", tmp_path / "more.json")
    assert list_splits(tmp_path) == ("more", "some")
    assert "has more, some but no train split; name the file or folder to use" in told(open_data, tmp_path)
    place(tmp_path, "train.json", "images")
    assert opened(tmp_path)[0] == tmp_path / "train.json"


def test_ones_own_comes_first(tmp_path: Path) -> None:
    place(tmp_path, "annotations/instances_train2017.json", "train2017")
    place(tmp_path, "train.json", "images")
    assert opened(tmp_path)[:2] == (tmp_path / "train.json", tmp_path / "images")


def test_paths_with_spaces_and_other_scripts(tmp_path: Path) -> None:
    place(tmp_path / "my data – Zürich 細胞", "train.json", "images")
    assert opened(tmp_path / "my data – Zürich 細胞")[2] == 59


def test_what_is_not_there(tmp_path: Path, told: Told) -> None:
    assert told(open_data, tmp_path).startswith(f"{tmp_path}: not a data set of a known format; looked for COCO (")
    assert "absent: no such file or folder" in told(open_data, tmp_path / "absent")
    (tmp_path / "notes.txt").touch()
    assert "not a data set of a known format" in told(open_data, tmp_path / "notes.txt")
    (tmp_path / "data.zip").touch()
    assert told(open_data, tmp_path / "data.zip").endswith("data.zip: an archive; unpack it and give the folder")
    assert "cannot be read (File name too long)" in told(open_data, tmp_path / ("x" * 5000))
    (tmp_path / "annotations").mkdir()
    shutil.copy(NUCLEI / "train.json", tmp_path / "annotations" / "instances_train2017.json")
    line = told(open_data, tmp_path)
    assert line == f"{tmp_path / 'train2017'}: no such folder of images; give it with --images"
    assert "has train but no val split" in told(open_data, tmp_path, "val")
    shutil.copy(NUCLEI / "train.json", tmp_path / "annotations" / "instances_train2014.json")
    line = told(open_data, tmp_path)
    assert "holds instances_train2014.json, instances_train2017.json; name one of these files" in line


def test_a_data_set_one_folder_deeper_is_named(tmp_path: Path, told: Told) -> None:
    place(tmp_path / "VOC2012", "train.json", "images")
    (tmp_path / "other").mkdir()
    line = f"{tmp_path}: not a data set, but it holds {tmp_path / 'VOC2012'}; name one of them"
    assert told(open_data, tmp_path) == line


def test_two_formats_in_one_folder(tmp_path: Path, told: Told) -> None:
    place(tmp_path, "train.json", "images")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]")
    assert told(open_data, tmp_path) == f"{tmp_path}: holds COCO and YOLO; name the file or folder to use instead"
    assert opened(tmp_path / "train.json")[2] == 59


def test_a_list_of_images_says_what_it_is_not(tmp_path: Path, told: Told) -> None:
    (tmp_path / "train.json").write_text("[]")
    (tmp_path / "images").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "images" / "a.png")
    assert "expected an object of images, annotations and categories" in told(open_data, tmp_path)


def test_nothing_is_opened_to_find_coco(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_bytes(b"\xff")
    assert list(find(tmp_path)) == ["val"]
    with pytest.raises(DataError, match="not valid JSON"):
        open_data(tmp_path, "val", NUCLEI / "images")


def test_the_same_labels_whatever_the_layout(tmp_path: Path) -> None:
    document = json.loads((NUCLEI / "train.json").read_text())
    place(tmp_path, "a/_annotations.coco.json", "a")
    assert open_data(tmp_path / "a").category_ids == tuple(each["id"] for each in document["categories"])


@pytest.mark.parametrize("target", ["coco", "yolo", "labelme"])
def test_damaged_files_end_in_data_or_one_line(tmp_path: Path, target: Any) -> None:
    """Any file of the folder, cut or with a few bytes changed; read strictly and letting everything pass."""
    convert_data(NUCLEI, tmp_path / "set", target, "train")
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    rng = np.random.default_rng(5)
    refused: list[str] = []
    for turn in range(40):
        file = files[rng.integers(len(files))]
        whole = file.read_bytes()
        spoilt = bytearray(whole[: rng.integers(len(whole))] if turn % 2 else whole)
        for place in rng.integers(max(len(spoilt), 1), size=4 * (len(spoilt) > 0)):
            spoilt[place] = rng.integers(256)
        file.write_bytes(spoilt)
        for report in (refuse, lambda finding: None):
            try:
                open_data(tmp_path / "set", report=report)
            except DataError as error:
                refused.append(str(error))
        file.write_bytes(whole)
    assert len(refused) >= 8
    assert not [line for line in refused if "\n" in line]
