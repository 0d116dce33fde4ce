"""One format to another and back: every object is there again, pixel by pixel."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as oracle

from condinst.data.formats import new_folder
from condinst.data.formats.convert import Target, convert_data
from condinst.data.open import list_splits, open_data
from condinst.data.sample import AnnotatedData, Polygons
from condinst.errors import CondinstError, DataError, UsageError
from condinst.ops.bitmaps.rle import decode

TARGETS: tuple[Target, ...] = ("coco", "yolo", "labelme")
NAMES = ("coco_mini", "facade", "mushrooms", "nuclei")
SQUARE = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]
CUTS = "objects of several parts or with holes are joined into one ring by cuts without width"


def without_crowds(data: AnnotatedData, masks: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        sample.path.stem: [
            mask for mask, each in zip(masks[sample.path.stem], sample.instances, strict=True) if not each.crowd
        ]
        for sample in data.samples
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_every_real_object_comes_back(
    tmp_path: Path, sets: Path, truth: Any, drawn: Any, same: Any, name: str, target: Target
) -> None:
    """By pycocotools' drawing of the original file."""
    convert_data(sets / name, tmp_path / "out", target)
    assert list_splits(tmp_path / "out") == ("train", "val")
    for split in ("train", "val"):
        _, expected = truth(name, split)
        before, after = open_data(sets / name, split), open_data(tmp_path / "out", split)
        if target == "yolo":
            expected = without_crowds(before, expected)
        same(drawn(after), expected)
        assert set(before.classes) == set(after.classes) or target == "labelme"  # which knows those that occur
        crowds = [sum(each.crowd for sample in data.samples for each in sample.instances) for data in (before, after)]
        assert crowds[1] == (0 if target == "yolo" else crowds[0])
        for sample in after.samples:
            original = sets / name / "images" / sample.path.name
            assert sample.path.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["coco_mini", "facade"])
def test_vertices_stay_where_they_are(tmp_path: Path, sets: Path, name: str, target: Target) -> None:
    convert_data(sets / name, tmp_path / "out", target, "train")
    before, after = open_data(sets / name), open_data(tmp_path / "out")
    found = {sample.path.name: [each for each in sample.instances if not each.crowd] for sample in after.samples}
    compared = 0
    for sample in before.samples:
        objects = [each for each in sample.instances if not each.crowd]
        for old, new in zip(objects, found[sample.path.name], strict=True):
            if target == "coco":  # the others take the shape's own box, which annotators' boxes are not always
                assert np.abs(np.subtract(old.box, new.box)).max() < 1e-3
            if isinstance(old.shape, Polygons) and isinstance(new.shape, Polygons):
                parts = [sorted(map(tuple, part.tolist())) for part in old.shape.parts]
                again = [sorted(map(tuple, part.tolist())) for part in new.shape.parts]
                assert sorted(map(len, parts)) == sorted(map(len, again))
                for part in parts:
                    assert (
                        min(np.abs(np.subtract(part, other)).max() for other in again if len(other) == len(part)) < 1e-3
                    )
                compared += len(parts)
    assert compared > 30


def test_coco_to_coco_keeps_every_record(tmp_path: Path, sets: Path) -> None:
    convert_data(sets / "coco_mini", tmp_path / "out", "coco")
    for split in ("train", "val"):
        old, new = (
            json.loads((folder / f"{split}.json").read_text()) for folder in (sets / "coco_mini", tmp_path / "out")
        )
        assert [(each["id"], each["name"]) for each in new["categories"]] == sorted(
            (each["id"], each["name"]) for each in old["categories"]
        )
        again = {each["id"]: each for each in new["annotations"]}
        assert len(again) == len(old["annotations"])
        for each in old["annotations"]:
            for key in ("image_id", "category_id", "iscrowd", "area"):
                assert again[each["id"]][key] == each[key]
            assert again[each["id"]]["bbox"] == pytest.approx(each["bbox"], abs=1e-6)
            if isinstance(each["segmentation"], list):
                assert again[each["id"]]["segmentation"] == each["segmentation"]


@pytest.mark.parametrize("first", TARGETS)
@pytest.mark.parametrize("second", TARGETS)
def test_through_two_formats(
    tmp_path: Path, sets: Path, truth: Any, drawn: Any, same: Any, first: Target, second: Target
) -> None:
    convert_data(sets / "nuclei", tmp_path / "first", first)
    convert_data(tmp_path / "first", tmp_path / "second", second)
    for split in ("train", "val"):
        same(drawn(open_data(tmp_path / "second", split)), truth("nuclei", split)[1])


def coco(folder: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("a.png",)) -> Path:
    """Pictures of 40×30 pixels, all annotations on the first of them."""
    for name in names:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (len(name), 0, 0)).save(folder / "images" / name, "PNG")
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names, 1)]
    records = [
        {"id": i, "image_id": 1, "category_id": 3, "bbox": [1, 2, 20, 10], "iscrowd": 0} | each
        for i, each in enumerate(annotations, 1)
    ]
    document = {"images": images, "categories": [{"id": 3, "name": "Ä: 細胞 #1"}], "annotations": records}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def whole(data: AnnotatedData) -> list[NDArray[np.bool_]]:
    return [decode(each.shape.whole(30, 40)) for each in data.samples[0].instances if each.shape is not None]


def ring_mask() -> NDArray[np.uint8]:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:20, 5:25] = 1
    mask[8:12, 8:20] = 0  # a hole with an island
    mask[9:11, 10:12] = 1
    mask[25:28, 30:38] = 1  # a part elsewhere
    return mask


def rle(mask: NDArray[np.uint8]) -> dict[str, Any]:
    coded = oracle.encode(np.asfortranarray(mask))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def test_holes_and_islands(tmp_path: Path) -> None:
    source = coco(tmp_path / "in", [{"segmentation": rle(ring_mask()), "bbox": [5, 5, 33, 23]}])
    for target in TARGETS:
        done = convert_data(source, tmp_path / target, target)
        (mask,) = whole(open_data(tmp_path / target))
        assert (mask == (ring_mask() > 0)).all()
        assert done.notes == ((f"1 {CUTS}",) if target == "yolo" else ())
    assert json.loads((tmp_path / "labelme" / "a.json").read_text())["shapes"][0]["shape_type"] == "mask"
    assert len((tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "parts",
    [
        [SQUARE, [number + 5 for number in SQUARE]],  # they overlap: one ring would leave the middle out
        [SQUARE, [12.0, 12.0, 18.0, 12.0, 18.0, 18.0, 12.0, 18.0]],  # one in the other: no hole, by COCO's rule
        [[-9.0, -7.0, 20.0, -7.0, 20.0, 22.5, -9.0, 22.5]],
        [[30.0, 20.0, 45.5, 20.0, 45.5, 40.0]],
        [[number / 2 for number in SQUARE], [number + 15.3 for number in SQUARE]],
    ],
)
def test_parts_that_one_ring_cannot_say(tmp_path: Path, parts: list[list[float]]) -> None:
    source = coco(tmp_path / "in", [{"segmentation": parts}])
    expected = whole(open_data(source))
    for target in TARGETS:
        convert_data(source, tmp_path / target, target)
        assert [mask.tolist() for mask in whole(open_data(tmp_path / target))] == [mask.tolist() for mask in expected]


def test_boxes_alone_and_crowds(tmp_path: Path) -> None:
    source = coco(tmp_path / "in", [{}, {"segmentation": [SQUARE]}, {"segmentation": rle(ring_mask()), "iscrowd": 1}])
    for target in TARGETS:
        done = convert_data(source, tmp_path / target, target)
        box, polygon, *crowd = open_data(tmp_path / target).samples[0].instances
        assert box.shape is None
        assert box.box == pytest.approx((1, 2, 21, 12))
        assert isinstance(polygon.shape, Polygons)
        assert [each.crowd for each in crowd] == ([] if target == "yolo" else [True])
        told = "".join(done.notes)
        assert ("1 crowd regions are left out" in told) == (target == "yolo")
        assert ("1 boxes without a mask are rows of 4 numbers" in told) == (target == "yolo")
        assert ("get the flag 'crowd'" in told) == (target == "labelme")


def test_an_object_outside_its_picture_is_refused(tmp_path: Path) -> None:
    outside = {"segmentation": [[50.0, 40.0, 60.0, 40.0, 60.0, 50.0]]}  # its box is not
    source = coco(tmp_path / "in", [outside, {"segmentation": [SQUARE]}])
    with pytest.raises(DataError, match=r"annotation 1: its box .* lies outside the picture of 40×30 pixels"):
        convert_data(source, tmp_path / "out", "yolo")


@pytest.mark.parametrize("target", TARGETS)
def test_names_of_any_script_and_the_same_in_two_folders(tmp_path: Path, target: Target) -> None:
    names = ("a b.png", "monday/x.png", "tuesday/x.png", "tuesday/X.PNG", "tuesday/x.jpg", "ünï 細.png", "bare")
    source = coco(tmp_path / "in – 1", [{"segmentation": [SQUARE]}], names)
    done = convert_data(source, tmp_path / "out 細", target)
    data = open_data(tmp_path / "out 細")
    assert data.classes == ("Ä: 細胞 #1",)
    assert sorted(sample.path.name for sample in data.samples) == sorted(
        ["a b.png", "x.png", "x-2.png", "X-3.PNG", "x-4.jpg", "ünï 細.png", "bare.png"]
    )
    contents = sorted(sample.path.read_bytes() for sample in data.samples)
    assert contents == sorted((source / "images" / name).read_bytes() for name in names)
    assert f"4 {new_folder.RENAMED}" in done.notes
    assert done.written == (("all", 7, 1),)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [b".hidden.png", b"a\nb.png", b"\xff\xe9.png"])
def test_names_that_no_text_holds(tmp_path: Path, target: Target, name: bytes) -> None:
    """Hidden, over two lines, or in no encoding: no object is lost."""
    for kind, pixels in (("images", 9), ("labels", 1)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.new("L", (8, 8), pixels).save(tmp_path / "set" / kind / "x.png")
    if name.startswith(b"."):  # of those, only COCO tells
        convert_data(tmp_path / "set", tmp_path / "coco", "coco")
        file, source = tmp_path / "coco" / "annotations.json", tmp_path / "coco"
        file.write_text(file.read_text().replace("x.png", name.decode()))
        (source / "images" / "x.png").rename(source / "images" / name.decode())
    else:
        source = tmp_path / "set"
        for kind in ("images", "labels"):
            (source / kind / "x.png").rename(source / kind / os.fsdecode(name))
    done = convert_data(source, tmp_path / "out", target)
    assert f"1 {new_folder.RENAMED}" in done.notes
    assert sum(len(sample.instances) for sample in open_data(tmp_path / "out").samples) == 1


def test_classes_of_splits_that_differ(tmp_path: Path) -> None:
    """YOLO has one list for all splits."""
    for split, name in (("train", "dog"), ("val", "cat")):
        source = coco(tmp_path / "in" / split, [{"segmentation": [SQUARE]}])
        document = json.loads((source / "annotations.json").read_text())
        document["categories"] = [{"id": 3, "name": name}, {"id": 9, "name": "bee"}]
        (source / "annotations.json").write_text(json.dumps(document))
    convert_data(tmp_path / "in", tmp_path / "out", "yolo")
    listed = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert listed == {"train": "images/train", "val": "images/val", "names": {0: "dog", 1: "bee", 2: "cat"}}
    for split, name in (("train", "dog"), ("val", "cat")):
        data = open_data(tmp_path / "out", split)
        assert data.classes[data.samples[0].instances[0].label] == name


def test_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "in", [{"segmentation": [SQUARE]}])
    monkeypatch.chdir(tmp_path)  # links must not start from here
    convert_data(Path("in"), Path("deep/er/out"), "labelme", link=True)
    link = tmp_path / "deep" / "er" / "out" / "a.png"
    assert link.is_symlink()
    assert link.resolve() == tmp_path / "in" / "images" / "a.png"
    assert len(open_data(tmp_path / "deep" / "er" / "out").samples) == 1


def test_one_split(tmp_path: Path, sets: Path) -> None:
    done = convert_data(sets / "nuclei", tmp_path / "out", "coco", "val")
    assert [(each.name, each.pictures, each.instances) for each in done.written] == [("val", 4, 66)]
    assert list_splits(tmp_path / "out") == ("val",)
    with pytest.raises(DataError, match="has val but no test split"):
        convert_data(tmp_path / "out", tmp_path / "more", "coco", "test")
    with pytest.raises(UsageError, match="is not split into train and val; leave --split out"):
        convert_data(sets / "nuclei" / "val.json", tmp_path / "more", "coco", "val")
    assert not (tmp_path / "more").exists()


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path: Path, sets: Path) -> None:
    (tmp_path / "out").mkdir()
    convert_data(sets / "nuclei", tmp_path / "out", "yolo")
    for out in (tmp_path / "out", tmp_path / "out" / "data.yaml", sets / "nuclei"):
        with pytest.raises(UsageError, match="already exists; choose a new or empty folder"):
            convert_data(sets / "nuclei", out, "yolo")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(OSError(errno.ENOSPC, "No space left on device"), CondinstError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_what_breaks_off_leaves_nothing(
    tmp_path: Path, sets: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, expected: type[BaseException]
) -> None:
    copied = []

    def fail(source: Path, target: Path) -> None:
        copied.append(target.write_bytes(source.read_bytes()))
        if len(copied) == 3:
            raise raised

    monkeypatch.setattr(new_folder.shutil, "copyfile", fail)
    with pytest.raises(expected) as caught:
        convert_data(sets / "nuclei", tmp_path / "out", "coco")
    assert len(copied) == 3
    assert list(tmp_path.iterdir()) == []
    if expected is CondinstError:
        assert str(caught.value).startswith(f"{tmp_path / 'out'}: cannot be written (No space left on device); free")


def test_bad_data_and_bad_places_write_nothing(tmp_path: Path, sets: Path) -> None:
    source = coco(tmp_path / "in", [{"segmentation": [[1, 2]]}])
    with pytest.raises(DataError, match=r"segmentation\[0\]"):
        convert_data(source, tmp_path / "out", "coco")
    (tmp_path / "file").touch()
    with pytest.raises(CondinstError, match="cannot be written"):
        convert_data(sets / "nuclei", tmp_path / "file" / "out", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in"]


def test_turned_pictures_stay_right(tmp_path: Path) -> None:
    """The picture keeps its tag, the numbers are of the upright picture in every format."""
    source = coco(tmp_path / "in", [{"segmentation": [SQUARE]}])
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (30, 40)).save(source / "images" / "a.png", exif=exif)  # upright: 40×30
    expected = whole(open_data(source))
    for target in TARGETS:
        convert_data(source, tmp_path / target, target)
        data = open_data(tmp_path / target)
        assert (data.samples[0].width, data.samples[0].height) == (40, 30)
        assert (whole(data)[0] == expected[0]).all()
