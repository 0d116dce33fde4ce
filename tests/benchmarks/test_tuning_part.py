"""Pictures of one photo stay on one side, and none is on both."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.data import tuning_part as script


def test_photos_stay_together(tmp_path: Path) -> None:
    names = [f"photo{number}_jpg.rf.{version}.jpg" for number in range(6) for version in "cab"]
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    annotations = [{"id": index, "image_id": index // 2} for index in range(2 * len(images))]
    (tmp_path / "images").mkdir()
    (tmp_path / "train.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    script.main(tmp_path, tmp_path / "out", photos=2)
    train, val = (json.loads((tmp_path / "out" / f"{part}.json").read_text()) for part in ("train", "val"))
    assert (len(train["images"]), len(val["images"])) == (12, 2)
    assert not {script.photo_of(image) for image in train["images"]} & {
        script.photo_of(image) for image in val["images"]
    }
    assert all(image["file_name"].endswith(".rf.c.jpg") for image in val["images"])
    assert len(train["annotations"]) == 24
    assert {one["image_id"] for one in val["annotations"]} == {image["id"] for image in val["images"]}
    assert (tmp_path / "out" / "images").resolve() == (tmp_path / "images").resolve()
