"""Which files `--data` and `--images` mean: a folder of one's own, COCO's own layout, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from condinst.cli.datasets import find_split, locate
from condinst.errors import DataError


def make(folder: Path, *names: str) -> Path:
    """Empty files, and folders where a name ends in a stroke."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
    return folder


def told(data: Path, split: str = "train", images: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        locate(data, images, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_own_layout(tmp_path: Path) -> None:
    make(tmp_path, "train.json", "val.json", "images/", "pictures/")
    assert locate(tmp_path, None, "train") == (tmp_path / "train.json", tmp_path / "images")
    assert locate(tmp_path, None, "val") == (tmp_path / "val.json", tmp_path / "images")
    assert locate(tmp_path / "val.json", None, "train") == (tmp_path / "val.json", tmp_path / "images")
    pictures = tmp_path / "pictures"
    assert locate(tmp_path, pictures, "train") == (tmp_path / "train.json", pictures)


@pytest.mark.parametrize("year", ["2017", "2014"])
def test_cocos_own_layout(tmp_path: Path, year: str) -> None:
    """Beside other files that COCO ships, of which some begin alike."""
    make(tmp_path, f"train{year}/", f"val{year}/", "annotations/instances_valminusminival2014.json")
    names = [f"{kind}_{split}{year}.json" for kind in ("instances", "captions") for split in ("train", "val")]
    annotations = make(tmp_path, *(f"annotations/{name}" for name in names)) / "annotations"
    for split in ("train", "val"):
        expected = annotations / f"instances_{split}{year}.json", tmp_path / f"{split}{year}"
        assert locate(tmp_path, None, split) == expected
        assert locate(expected[0], None, "train") == expected
        assert find_split(tmp_path, split) == expected[0]


def test_ones_own_comes_first(tmp_path: Path) -> None:
    make(tmp_path, "train.json", "images/", "annotations/instances_train2017.json", "train2017/", "annotations/images/")
    assert locate(tmp_path, None, "train") == (tmp_path / "train.json", tmp_path / "images")
    coco = tmp_path / "annotations" / "instances_train2017.json"
    assert locate(coco, None, "train") == (coco, tmp_path / "annotations" / "images")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert told(tmp_path) == (
        f"{tmp_path}: holds neither train.json nor annotations/instances_trainYEAR.json; "
        "give a COCO JSON file or a folder with one of them"
    )
    assert find_split(tmp_path, "val") is None
    assert "absent: no such annotation file" in told(tmp_path / "absent")
    make(tmp_path, "annotations/instances_train2017.json")
    assert told(tmp_path) == f"{tmp_path / 'train2017'}: no such folder of images; give it with --images"
    make(tmp_path, "train2017/", "annotations/instances_train2014.json")
    line = told(tmp_path)
    assert "holds instances_train2014.json, instances_train2017.json; name one of these files" in line
    make(tmp_path, "mine/train.json")
    assert f"{tmp_path / 'mine' / 'images'}: no such folder" in told(tmp_path / "mine" / "train.json")
    assert "elsewhere: no such folder" in told(tmp_path / "mine", images=tmp_path / "elsewhere")
