"""What is sure wins: the mask over the stated box and area, the picture over its stated size, in every format."""

from __future__ import annotations

import base64
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.data.class_names import alike, same_class_name
from condinst.data.findings import Finding
from condinst.data.formats.coco.read import read_coco
from condinst.data.formats.convert import Target, convert_data
from condinst.data.open import open_data
from condinst.data.sample import AnnotatedData, Federated, Polygons
from condinst.errors import DataError

WIDTH, HEIGHT = 40, 30
SQUARE = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]
SPECK = [20.0, 10.0, 20.2, 10.0, 20.2, 10.3, 20.0, 10.3]  # covers no pixel


def save(path: Path, shade: int = 0, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix != ".jpg" else "JPEG", exif=exif)


def coco(folder: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    save(folder / "images" / "a.png")
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 10, 10], "segmentation": [SQUARE]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [common | {"id": number} | each for number, each in enumerate(annotations, 1)],
    }
    folder.mkdir(exist_ok=True)
    (folder / "annotations.json").write_text(json.dumps(document | more))
    return folder


def found(folder: Path) -> tuple[AnnotatedData, list[Finding]]:
    findings: list[Finding] = []
    return open_data(folder, report=findings.append), findings


WRONG_BOXES: list[Any] = [
    [0, 0, 0, 0], [10, 10, 0, 10], [10, 10, -10, -10], [1, 2, 3], "10 10 10 10", {"x": 1}, ["a", 1, 2, 3],
    [float("nan")] * 4, [10, 10, 1e300, 10], [200, 10, 10, 10], [10, 10, 20, 20], [30, 25, 5, 5], True, "",
]  # fmt: skip


@pytest.mark.parametrize("box", WRONG_BOXES, ids=repr)
def test_a_wrong_box_costs_no_object(tmp_path: Path, box: Any) -> None:
    data, findings = found(coco(tmp_path, {"bbox": box}))
    (instance,) = data.samples[0].instances
    assert instance.box == (10, 10, 20, 20)
    (finding,) = findings
    assert (finding.kind, finding.severity, finding.id) == ("box-mismatch", "warning", 1)
    assert len(data.notes) == 1
    assert "1 boxes" in data.notes[0]
    assert open_data(tmp_path).samples[0].instances[0].box == instance.box  # also where errors are refused


@pytest.mark.parametrize("box", [box for box in WRONG_BOXES if box not in ([10, 10, 20, 20], [30, 25, 5, 5])], ids=repr)
def test_a_wrong_box_alone_is_an_error_or_left_out(tmp_path: Path, box: Any) -> None:
    data, findings = found(coco(tmp_path, {"bbox": box, "segmentation": []}, {}))
    assert [instance.annotation_id for instance in data.samples[0].instances] == [2]
    (finding,) = findings
    assert finding.severity == "error" or finding.kind == "zero-area"


def test_a_box_that_is_nearly_the_masks_is_kept(tmp_path: Path) -> None:
    data, findings = found(coco(tmp_path, {"bbox": [9, 9, 12, 12]}))
    assert data.samples[0].instances[0].box == (9, 9, 21, 21)
    assert findings == []


@pytest.mark.parametrize("area", ["", "x", -1, 0, float("nan"), 10**400, [], WIDTH * HEIGHT * 2, True], ids=repr)
@pytest.mark.parametrize("more", [{}, {"segmentation": []}])
def test_a_wrong_area_costs_no_object(tmp_path: Path, area: Any, more: dict[str, Any]) -> None:
    data, findings = found(coco(tmp_path, {"area": area} | more))
    assert data.samples[0].instances[0].area is None
    assert [(finding.kind, finding.severity) for finding in findings] == [("area-mismatch", "info")]
    assert len(data.notes) == 1


def test_a_large_object_may_state_its_area(tmp_path: Path) -> None:
    """More than a million pixels are an area like any other."""
    Image.new("L", (2000, 1000)).save(tmp_path / "a.png")
    big = {"segmentation": [[0, 0, 1900, 0, 1900, 900, 0, 900]], "bbox": [0, 0, 1900, 900], "area": 1_710_000}
    images = [{"id": 1, "file_name": "a.png"}]
    coco(tmp_path / "set", big, images=images)
    data = read_coco(tmp_path / "set" / "annotations.json", tmp_path)
    assert data.samples[0].instances[0].area == 1_710_000


@pytest.mark.parametrize("size", [("x", HEIGHT), (0, 0), (-1, 30), (None, HEIGHT), (float("nan"), 1), (39.5, HEIGHT)])
def test_a_size_that_is_none_costs_no_picture(tmp_path: Path, size: tuple[Any, Any]) -> None:
    stated = {"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}
    data, findings = found(coco(tmp_path / "coco", {}, images=[stated]))
    labelme = tmp_path / "labelme"
    save(labelme / "a.png")
    shape = {"label": "cell", "points": [[10, 10], [20, 10], [20, 20]], "shape_type": "polygon"}
    document = {"shapes": [shape], "imagePath": "a.png", "imageWidth": size[0], "imageHeight": size[1]}
    (labelme / "a.json").write_text(json.dumps(document))
    other, more = found(labelme)
    for read, told in ((data, findings), (other, more)):
        (sample,) = read.samples
        assert (sample.width, sample.height, len(sample.instances)) == (WIDTH, HEIGHT, 1)
        assert [(finding.kind, finding.severity) for finding in told] == [("wrong-size", "warning")]
        assert "the sizes of the pictures" in read.notes[0]


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_picture_without_a_stated_size_is_told(tmp_path: Path, orientation: int) -> None:
    folder = coco(tmp_path / "coco", {}, images=[{"id": 1, "file_name": "a.png"}])
    save(folder / "images" / "a.png", orientation=orientation)
    yolo = tmp_path / "yolo"
    save(yolo / "images" / "a.png", orientation=orientation)
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text("0 0.2 0.2 0.4 0.2 0.4 0.4\n")
    (yolo / "data.yaml").write_text("train: images\nnames: [cell]\n")
    for place in (folder, yolo):
        data, findings = found(place)
        assert [(finding.kind, finding.severity) for finding in findings] == [("exif-rotated", "warning")]
        assert "EXIF orientation" in data.notes[0]


@pytest.mark.parametrize(("orientation", "square"), [(3, False), (2, False), (6, True), (8, False), (1, True)])
def test_a_turn_that_no_size_shows_is_told_by_every_command(tmp_path: Path, orientation: int, square: bool) -> None:
    """Orientation 3 keeps the size, and so does 6 in a square picture."""
    side = HEIGHT if square else WIDTH
    told = orientation == 3 or orientation == 2 or (orientation == 6 and square)
    height, width = (side, HEIGHT) if orientation == 8 else (HEIGHT, side)  # upright
    for kind in ("coco", "labelme", "cvat", "labels"):
        root = tmp_path / kind
        picture = root / ("a.jpg" if kind == "labelme" else "images/a.jpg")
        picture.parent.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (side, HEIGHT)).save(picture, exif=exif)
        points = [[2, 2], [9, 2], [9, 9]]
        if kind == "coco":
            coco(root, {}, images=[{"id": 1, "file_name": "a.jpg", "width": width, "height": height}])
            (root / "images" / "a.png").unlink()
        elif kind == "labelme":
            shapes = [{"label": "cell", "points": points, "shape_type": "polygon"}]
            document = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": height, "imageWidth": width}
            (root / "a.json").write_text(json.dumps(document))
        elif kind == "cvat":
            drawn = '<polygon label="cell" points="2,2;9,2;9,9"/>'
            image = f'<image name="a.jpg" width="{width}" height="{height}">{drawn}</image>'
            (root / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
        else:
            (root / "labels").mkdir()
            numbers = np.zeros((height, width), dtype=np.uint8)
            numbers[2:9, 2:9] = 1
            Image.fromarray(numbers).save(root / "labels" / "a.png")
        notes = [note for note in open_data(root).notes if "EXIF" in note]
        said = "1 pictures are rotated or mirrored by their EXIF orientation without a change of size"
        assert [said in note for note in notes] == [True] * told


def test_pictures_of_lvis_have_an_address_for_a_name(tmp_path: Path) -> None:
    save(tmp_path / "images" / "val2017" / "a.png")
    save(tmp_path / "images" / "b.png", 1)
    images = [
        {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/a.png", "width": WIDTH, "height": HEIGHT},
        {"id": 2, "coco_url": "http://images.cocodataset.org/train2017/b.png", "neg_category_ids": None},
    ]
    data = open_data(coco(tmp_path, {}, images=images))
    assert [sample.path for sample in data.samples] == [
        tmp_path / "images" / "val2017" / "a.png", tmp_path / "images" / "b.png"
    ]  # fmt: skip
    assert not [note for note in data.notes if "no annotation names (images/b" in note or "val2017" in note]


def test_crowds_written_as_text_and_a_mask_without_size(tmp_path: Path) -> None:
    counts = [10 * 30, 200, 30 * WIDTH - 500]
    rle = {"segmentation": {"counts": counts}, "bbox": None}
    data, findings = found(coco(tmp_path, {"iscrowd": "1"}, {"iscrowd": "0"}, rle))
    assert [instance.crowd for instance in data.samples[0].instances] == [True, False, False]
    assert findings == []
    with pytest.raises(DataError, match=r"not a COCO RLE|runs end"):
        open_data(coco(tmp_path, {"segmentation": {"counts": [*counts[:2], 5]}}))


def test_what_covers_no_pixel_is_left_out_in_every_format(tmp_path: Path) -> None:
    folders = [coco(tmp_path / "coco", {"segmentation": [SPECK], "bbox": [20, 10, 0.2, 0.3]}, {})]
    points = np.array(SPECK).reshape(-1, 2)
    labelme = tmp_path / "labelme"
    save(labelme / "a.png")
    shapes = [{"label": "cell", "points": p} for p in (points.tolist(), np.array(SQUARE).reshape(-1, 2).tolist())]
    (labelme / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    yolo = tmp_path / "yolo"
    save(yolo / "images" / "a.png")
    (yolo / "labels").mkdir()
    rows = [(np.array(p).reshape(-1, 2) / (WIDTH, HEIGHT)).ravel().tolist() for p in (SPECK, SQUARE)]
    (yolo / "labels" / "a.txt").write_text("\n".join("0 " + " ".join(map(str, row)) for row in rows))
    (yolo / "data.yaml").write_text("train: images\nnames: [cell]\n")
    cvat = tmp_path / "cvat"
    save(cvat / "a.png")
    drawn = [";".join(f"{x},{y}" for x, y in np.array(p).reshape(-1, 2)) for p in (SPECK, SQUARE)]
    body = "".join(f'<polygon label="cell" points="{p}"/>' for p in drawn)
    picture = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{body}</image>'
    (cvat / "annotations.xml").write_text(f"<annotations>{picture}</annotations>")
    for folder in (*folders, labelme, yolo, cvat):
        data, findings = found(folder)
        assert len(data.samples[0].instances) == 1, folder
        assert [finding.kind for finding in findings] == ["zero-area"]
        assert "covers no pixel" in data.notes[0]


def test_roots_are_no_classes(tmp_path: Path) -> None:
    """Roboflow's id 0; a category that has objects stays, whatever else names it."""
    root = {"id": 0, "name": "cells", "supercategory": "none"}
    cell = {"id": 1, "name": "cell", "supercategory": "cells"}
    data = open_data(coco(tmp_path / "a", {}, categories=[root, cell]))
    assert (data.classes, data.category_ids, data.samples[0].instances[0].label) == (("cell",), (1,), 0)
    assert "'cells'" in data.notes[0]
    assert open_data(coco(tmp_path / "b", {}, {"category_id": 0}, categories=[root, cell])).classes == ("cells", "cell")
    own = cell | {"name": "cells"}  # the root and its class are called the same
    assert open_data(coco(tmp_path / "c", {}, categories=[root, own])).classes == ("cells",)
    alone = [{"id": 1, "name": "cell", "supercategory": "cell"}, {"id": 2, "name": "dog", "supercategory": "animal"}]
    assert open_data(coco(tmp_path / "d", {}, categories=alone)).classes == ("cell", "dog")


def test_class_names_that_look_alike(tmp_path: Path) -> None:
    names = [
        "cell",
        "Cell",
        "cell ",
        "cel\u200bl",
        "café",
        unicodedata.normalize("NFD", "café"),
        "red_cell",
        "red cell",
    ]
    assert alike(names) == [tuple(names[:4]), tuple(names[4:6]), tuple(names[6:])]
    assert alike(["cell", "cells", "cell-1", "zelle"]) == []
    assert same_class_name("STRASSE", "straße")
    assert not same_class_name("cell", "cell")
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "Cell"}]
    data = open_data(coco(tmp_path, {}, categories=categories))
    assert "look alike" in data.notes[0]


def test_federated_annotations_are_read_and_kept(tmp_path: Path) -> None:
    categories = [{"id": 5, "name": "cell"}, {"id": 7, "name": "dog"}]
    image = {"id": 1, "file_name": "a.png", "neg_category_ids": [7, 99], "not_exhaustive_category_ids": [5]}
    source = coco(tmp_path / "in", {"category_id": 5}, images=[image], categories=categories)
    assert open_data(source).samples[0].federated == Federated(frozenset({1}), frozenset({0}))
    convert_data(source, tmp_path / "out", "coco")
    assert open_data(tmp_path / "out").samples[0].federated == Federated(frozenset({1}), frozenset({0}))
    others: tuple[Target, ...] = ("yolo", "labelme")
    for target in others:
        assert any("neg_category_ids" in note for note in convert_data(source, tmp_path / target, target).notes)
    with pytest.raises(DataError, match="'neg_category_ids' must be a list"):
        open_data(coco(tmp_path / "bad", {}, images=[image | {"neg_category_ids": "7"}]))


@pytest.mark.parametrize(("on_disk", "stated"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_another_normal_form(tmp_path: Path, on_disk: str, stated: str) -> None:
    """Files and folders."""
    disk, said = (unicodedata.normalize(form, "fête/café.png") for form in (on_disk, stated))
    folder = coco(tmp_path / "coco", {}, images=[{"id": 1, "file_name": said}])
    save(folder / "images" / disk)
    labelme = tmp_path / "labelme"
    save(labelme / disk)
    shape = {"label": "cell", "points": np.array(SQUARE).reshape(-1, 2).tolist()}
    (labelme / "a.json").write_text(json.dumps({"shapes": [shape], "imagePath": said}))
    yolo = tmp_path / "yolo"
    save(yolo / "images" / disk)
    label = (yolo / "labels" / said).with_suffix(".txt")
    label.parent.mkdir(parents=True)
    label.write_text("0 0.2 0.2 0.4 0.2 0.4 0.4\n")
    (yolo / "data.yaml").write_text("train: images\nnames: [cell]\n")
    for place in (folder, labelme, yolo):
        (sample,) = open_data(place).samples
        assert len(sample.instances) == 1
        assert sample.path.is_file()


@pytest.mark.parametrize("name", ["photo.mpo", "photo", "photo.unknown"])
def test_pictures_of_two_views_are_copied_as_jpeg(tmp_path: Path, name: str) -> None:
    folder = coco(tmp_path / "in", {}, images=[{"id": 1, "file_name": name}])
    one = Image.new("RGB", (WIDTH, HEIGHT), "red")
    one.save(folder / "images" / name, "MPO", save_all=True, append_images=[one])
    targets: tuple[Target, ...] = ("coco", "yolo", "labelme")
    for target in targets:
        convert_data(folder, tmp_path / target, target)
        assert [path.suffix for path in open_data(tmp_path / target).samples[0].path.parent.glob("photo*.jpg")]


def labelme_pair(folder: Path, embed: bool, first: str = "p1.png") -> Path:
    """p0.json names `first`; its object, and the picture inside it where there is one, are those of p0.png."""
    for number in (0, 1):
        save(folder / f"p{number}.png", shade=number)
    content = base64.b64encode((folder / "p0.png").read_bytes()).decode() if embed else None
    shape = {"label": "cell", "points": np.array(SQUARE).reshape(-1, 2).tolist()}
    (folder / "p0.json").write_text(json.dumps({"shapes": [shape], "imagePath": first, "imageData": content}))
    return folder


def test_the_picture_inside_a_labelme_file_decides(tmp_path: Path) -> None:
    data, findings = found(labelme_pair(tmp_path, embed=True))
    assert [sample.path.name for sample in data.samples] == ["p0.png"]
    told = [finding.severity for finding in findings if finding.kind == "picture-mismatch"]
    assert told == ["warning"]
    assert any("uses the picture that they contain" in note for note in data.notes)


def test_two_pictures_of_a_labelme_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"imagePath names .*p1\.png, but p0\.png has the name of the JSON file"):
        open_data(labelme_pair(tmp_path, embed=False))
    outside = tmp_path / "other"
    save(outside / "p0.png", shade=7)
    with pytest.raises(DataError, match="has the name of the JSON file"):
        open_data(labelme_pair(tmp_path / "set", embed=False, first="../other/p0.png"))
    (outside / "p0.png").write_bytes((tmp_path / "set" / "p0.png").read_bytes())  # the same picture: no matter
    assert len(open_data(tmp_path / "set").samples) == 1


def yolo_set(folder: Path, prefix: str, splits: tuple[str, ...] = ("train", "valid")) -> Path:
    for split in splits:
        save(folder / split / "images" / f"{prefix}.png")
        (folder / split / "labels").mkdir()
        (folder / split / "labels" / f"{prefix}.txt").write_text("0 0.2 0.2 0.4 0.2 0.4 0.4\n")
    lines = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cell]\n"
    (folder / "data.yaml").write_text(lines)
    return folder


def test_a_neighbours_pictures_are_never_read(tmp_path: Path) -> None:
    yolo_set(tmp_path, "first", ("train", "valid", "test"))
    data = open_data(yolo_set(tmp_path / "second", "second"))
    assert [sample.path.name for sample in data.samples] == ["second.png"]
    assert any("'train' is read from" in note and "although that exists, too" in note for note in data.notes)
    assert any("left out 'test'" in note for note in data.notes)
    with pytest.raises(DataError, match="no test split"):
        open_data(tmp_path / "second", "test")


def test_a_folder_outside_is_told(tmp_path: Path) -> None:
    """A data.yaml in a folder of its own may lead to pictures beside that folder."""
    yolo_set(tmp_path, "first")
    (tmp_path / "settings").mkdir()
    (tmp_path / "data.yaml").rename(tmp_path / "settings" / "data.yaml")
    data = open_data(tmp_path / "settings" / "data.yaml")
    assert [sample.path.name for sample in data.samples] == ["first.png"]
    assert any("outside the folder of data.yaml" in note for note in data.notes)


@pytest.mark.parametrize("name", ["../../other/images/a.png", "..\\..\\other\\images\\a.png"])
def test_a_path_out_of_a_coco_folder(tmp_path: Path, name: str) -> None:
    folder = coco(tmp_path / "set", {}, images=[{"id": 1, "file_name": name}])
    save(tmp_path / "other" / "images" / "a.png", shade=5)
    data = open_data(folder)
    assert data.samples[0].path.resolve() == (folder / "images" / "a.png").resolve()
    assert any("their file_name names another place" in note for note in data.notes)


@pytest.mark.parametrize("write", [float, str])
def test_run_lengths_written_as_floats_or_text(tmp_path: Path, write: Any) -> None:
    counts = [10 * 30, 200, 30 * WIDTH - 500]
    rle = {"counts": [write(run) for run in counts], "size": [write(HEIGHT), write(WIDTH)]}
    exact = {"counts": counts, "size": [HEIGHT, WIDTH]}
    data, findings = found(coco(tmp_path, *({"segmentation": each, "bbox": None} for each in (rle, exact))))
    one, other = data.samples[0].instances
    assert (one.shape, one.box) == (other.shape, other.box)
    assert not findings


@pytest.mark.parametrize("parts", [[SQUARE, []], [[], SQUARE], [SQUARE, [], []]])
def test_an_empty_polygon_beside_a_good_one_costs_nothing(tmp_path: Path, parts: Any) -> None:
    data, findings = found(coco(tmp_path, {"segmentation": parts}, {}))
    one, other = data.samples[0].instances
    assert one.box == other.box
    assert isinstance(one.shape, Polygons)
    assert len(one.shape.parts) == 1
    assert not findings


def test_a_picture_listed_twice_is_told_by_every_command(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": "a.png", "width": WIDTH, "height": HEIGHT} for number in (1, 2)]
    data = open_data(coco(tmp_path, {}, {"image_id": 2}, images=images))
    assert "1 pictures are listed twice; the objects of each record are background in the other" in data.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_json_file_of_windows_is_known_whatever_its_name(tmp_path: Path, encoding: str) -> None:
    """A byte order mark or UTF-16 hides no COCO file of another name and no labelme file."""
    folder = coco(tmp_path / "coco", {})
    text = (folder / "annotations.json").read_text()
    (folder / "annotations.json").unlink()
    (folder / "export.json").write_bytes(text.encode(encoding))
    labelme = tmp_path / "labelme"
    save(labelme / "a.png")
    shape = {"label": "cell", "points": [[10, 10], [20, 10], [20, 20]], "shape_type": "polygon"}
    (labelme / "a.json").write_bytes(json.dumps({"shapes": [shape], "imagePath": "a.png"}).encode(encoding))
    for place in (folder, labelme):
        assert len(open_data(place).samples[0].instances) == 1
