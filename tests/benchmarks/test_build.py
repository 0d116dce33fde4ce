"""The data sets are built as they were: from a source laid out as its repository is, made from the local copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as codec

from benchmarks.data import build
from condinst.errors import DataError, UsageError

COPIES = Path(__file__).parents[3] / "shared" / "data"


def copy_of(name: str) -> Path:
    folder = COPIES / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not here")
    return folder


def documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{part}.json").read_text()) for part in ("train", "val")]


@pytest.mark.parametrize("name", ["potholes", pytest.param("mushrooms", marks=pytest.mark.slow)])
def test_roboflow_export_becomes_the_set(name: str, tmp_path: Path) -> None:
    copy = copy_of(name)
    kept = documents(copy)
    for part, document in zip(("train", "valid"), kept, strict=True):
        folder = tmp_path / "source" / "data" / part
        folder.mkdir(parents=True)
        changed = document | {"categories": [{"id": 0, "name": "none"}, *document["categories"]]}
        changed["annotations"] = [each | {"bbox": [0, 0, 1, 1], "area": 1} for each in document["annotations"]]
        (folder / build.EXPORT).write_text(json.dumps(changed))
        for image in document["images"]:
            (folder / image["file_name"]).symlink_to(copy / "images" / image["file_name"])
    build.main(name, tmp_path / "source", tmp_path / "out")
    for made, document in zip(documents(tmp_path / "out"), kept, strict=True):
        assert [each["name"] for each in made["categories"]] == [each["name"] for each in document["categories"]]
        ours, theirs = _facts(made), _facts(document)
        assert [each[:3] for each in ours] == [each[:3] for each in theirs]
        for mine, other in zip(ours, theirs, strict=True):  # outlines were rounded after they were measured
            np.testing.assert_allclose(mine[3:], other[3:], rtol=0.01, atol=2)
    assert len(list((tmp_path / "out" / "images").iterdir())) == sum(len(each["images"]) for each in kept)


def _facts(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of every object: picture, class, outline, area and box."""
    names = {each["id"]: each["file_name"] for each in document["images"]}
    return sorted(
        (names[each["image_id"]], each["category_id"], each["segmentation"], each["area"], *each["bbox"])
        for each in document["annotations"]
    )


def test_nuclei_are_built_from_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, few = copy_of("nuclei"), {}
    kept = documents(copy)
    for part, document in zip(("train", "val"), kept, strict=True):
        few[part] = [image["file_name"] for image in document["images"][:2]]
        for image in document["images"][:2]:
            folder = tmp_path / "source" / "stage1_train" / f"{Path(image['file_name']).stem}{48 * '0'}"
            (folder / "images").mkdir(parents=True)
            (folder / "masks").mkdir()
            Image.open(copy / "images" / image["file_name"]).convert("RGBA").save(folder / "images" / "a.png")
            objects = [each for each in document["annotations"] if each["image_id"] == image["id"]]
            for number, each in enumerate(objects):
                mask = codec.decode(each["segmentation"]).astype(bool)
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{number:04}.png")
    monkeypatch.setattr(build, "PARTS", tmp_path)
    (tmp_path / "nuclei.json").write_text(json.dumps({"classes": ["nucleus"], **few}))
    build.main("nuclei", tmp_path / "source", tmp_path / "out")
    for part, made, document in zip(("train", "val"), documents(tmp_path / "out"), kept, strict=True):
        chosen = {image["id"] for image in document["images"] if image["file_name"] in few[part]}
        areas = sorted(each["area"] for each in document["annotations"] if each["image_id"] in chosen)
        assert sorted(each["area"] for each in made["annotations"]) == areas
    for name in (*few["train"], *few["val"]):
        ours, theirs = (np.asarray(Image.open(folder / "images" / name)) for folder in (tmp_path / "out", copy))
        assert np.array_equal(ours, theirs)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known are mushrooms"):
        build.main("cats", tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        build.main("potholes", tmp_path, tmp_path)
    with pytest.raises(DataError, match="no _annotations"):
        build.main("potholes", tmp_path, tmp_path / "out")
    shutil.copytree(Path(__file__).parent.parent / "data" / "mushrooms", tmp_path / "source" / "data" / "train")
    (tmp_path / "source" / "data" / "train" / "train.json").rename(
        tmp_path / "source" / "data" / "train" / build.EXPORT
    )
    with pytest.raises(DataError, match="pictures of potholes are not there"):
        build.main("potholes", tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()
