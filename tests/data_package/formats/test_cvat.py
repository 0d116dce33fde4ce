"""CVAT's XML: all its shapes with an area, groups, subsets, and hostile files in one line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from shapely.affinity import rotate, scale
from shapely.geometry import Point
from shapely.geometry import Polygon as Area
from shapely.geometry import box as area_of

from condinst.data.findings import Finding
from condinst.data.formats import cvat
from condinst.data.open import find_source, list_splits, open_data
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError
from condinst.ops.bitmaps.rle import decode

Told = Callable[..., str]
WIDTH, HEIGHT = 40, 20
POINTS = "4.00,2.00;20.00,2.00;20.00,18.00"
HEAD = "<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"


def make(folder: Path, shapes: str, more: str = "", head: str = HEAD, beside: str = "images") -> Path:
    (folder / beside).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / beside / "a.png")
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{head}{image}{more}</annotations>'
    )
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder


def element(tag: str, **values: Any) -> str:
    return f"<{tag} " + " ".join(f'{key}="{value}"' for key, value in ({"label": "cat"} | values).items()) + "/>"


def only(folder: Path) -> Any:
    (instance,) = open_data(folder).samples[0].instances
    return instance


def overlap(left: Area, right: Area) -> float:
    return float(left.intersection(right).area / left.union(right).area)


def test_polygon_and_classes_in_the_files_order(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, element("polygon", points=POINTS, occluded=0, z_order=0)))
    assert (data.classes, data.category_ids) == (("dog", "cat"), (1, 2))
    (instance,) = data.samples[0].instances
    assert instance.label == 1
    assert instance.shape.parts[0].tolist() == [[4, 2], [20, 2], [20, 18]]


def test_box(tmp_path: Path) -> None:
    instance = only(make(tmp_path, element("box", xtl=4, ytl=2, xbr=20.5, ybr=18)))
    assert (instance.shape, instance.box) == (None, (4, 2, 20.5, 18))


@pytest.mark.parametrize("degrees", [30, 90, 305.5])
def test_a_turned_box_is_a_polygon(tmp_path: Path, degrees: float) -> None:
    instance = only(make(tmp_path, element("box", xtl=14, ytl=6, xbr=24, ybr=12, rotation=degrees)))
    truth = rotate(area_of(14, 6, 24, 12), degrees)  # clockwise on the screen, as y runs down
    assert overlap(Area(instance.shape.parts[0]), truth) > 0.999


@pytest.mark.parametrize("degrees", [0, 30, 120])
def test_ellipse(tmp_path: Path, degrees: float) -> None:
    instance = only(make(tmp_path, element("ellipse", cx=18, cy=10, rx=9, ry=4, rotation=degrees)))
    truth = rotate(scale(Point(18, 10).buffer(1, quad_segs=64), 9, 4), degrees)
    assert overlap(Area(instance.shape.parts[0]), truth) > 0.97


def runs(mask: NDArray[np.uint8]) -> str:
    """Row by row, beginning with the empty ones."""
    found = [(int(value), len(list(group))) for value, group in groupby(mask.ravel().tolist())]
    return ", ".join(str(count) for count in [0] * found[0][0] + [count for _, count in found])


def test_mask(tmp_path: Path) -> None:
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[1:4, 2:6] = 1
    mask[2, 3] = 0
    folder = make(tmp_path, element("mask", rle=runs(mask), left=10, top=3, width=7, height=5))
    whole = np.zeros((HEIGHT, WIDTH), dtype=bool)
    whole[3:8, 10:17] = mask > 0
    assert (decode(only(folder).shape.whole(HEIGHT, WIDTH)) == whole).all()
    assert only(folder).box == (12, 4, 16, 7)


def test_groups_are_one_object_where_the_label_is_one(tmp_path: Path) -> None:
    grouped = element("polygon", points=POINTS, group_id=2)
    data = open_data(
        make(
            tmp_path,
            grouped
            + element("box", xtl=30, ytl=2, xbr=35, ybr=9, group_id=2)
            + element("polygon", points=POINTS, group_id=2, label="dog")
            + element("polygon", points=POINTS, group_id=0)
            + element("polygon", points=POINTS, group_id=0),
        )
    )
    first, *others = data.samples[0].instances
    assert len(first.shape.parts) == 2
    assert first.box == (4, 2, 35, 18)
    assert [each.label for each in others] == [0, 1, 1]


def test_what_has_no_area_is_counted(tmp_path: Path) -> None:
    shapes = element("points", points="1,1") + element("polyline", points=POINTS) + element("tag")
    shapes += element("box", xtl=4, ytl=2, xbr=4, ybr=9) + element("mask", rle="4", left=0, top=0, width=2, height=2)
    data = open_data(make(tmp_path, shapes + element("polygon", points=POINTS)))
    assert len(data.samples[0].instances) == 1
    assert data.notes == tuple(
        f"{tmp_path / 'annotations.xml'}: left out {what}"
        for what in (
            "2 objects whose box or mask covers no pixel",
            "1 shapes of the type points, because they have no area",
            "1 shapes of the type polyline, because they have no area",
            "1 shapes of the type tag, because they have no area",
        )
    )


@pytest.mark.parametrize("beside", ["images", "."])
def test_pictures_in_a_folder_or_beside_the_file(tmp_path: Path, beside: str) -> None:
    folder = make(tmp_path, element("polygon", points=POINTS), beside=beside)
    for data in (folder, folder / "annotations.xml"):
        assert open_data(data).samples[0].path == folder / beside / "a.png"
    shutil.move(folder / beside / "a.png", tmp_path / "b")
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "b", tmp_path / "moved" / "a.png")
    assert open_data(folder, images=tmp_path / "moved").samples[0].path == tmp_path / "moved" / "a.png"


def test_a_projects_subsets_are_splits(tmp_path: Path) -> None:
    images = "".join(
        f'<image id="{number}" name="{number}.png" subset="{subset}" width="40" height="20">'
        f"{element('polygon', points=POINTS)}</image>"
        for number, subset in enumerate(["Train", "Validation", "Train", "odd"], 1)
    )
    make(tmp_path, "", images).joinpath("images", "Validation").mkdir()
    for place in ("1.png", "Validation/2.png", "3.png"):
        shutil.copy(tmp_path / "images" / "a.png", tmp_path / "images" / place)
    assert list_splits(tmp_path) == ("train", "val", "default", "odd")  # the first picture names no subset
    train: AnnotatedData = open_data(tmp_path)
    assert [sample.path.name for sample in train.samples] == ["1.png", "3.png"]
    assert [sample.path.name for sample in open_data(tmp_path, "default").samples] == ["a.png"]
    assert open_data(tmp_path, "val").samples[0].path.parent.name == "Validation"


@pytest.mark.parametrize("name", [" ", "x" * 300, "a\nb"])
def test_a_class_without_a_usable_name_is_an_error(tmp_path: Path, told: Told, name: str) -> None:
    head = f"<meta><task><labels><label><name>{name}</name></label></labels></task></meta>"
    line = told(open_data, make(tmp_path, element("polygon", points=POINTS), head=head))
    assert "<labels>: the name of a label" in line


def test_a_file_of_subsets_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = "".join(
        f'<image id="{number}" name="{number}.png" subset="{subset}" width="40" height="20">'
        f"{element('polygon', points=POINTS)}{element('polygon', points='1,1')}</image>"
        for number, subset in enumerate(["Train", "Validation", "more"], 1)
    )
    folder = make(tmp_path, "", images)
    for number in (1, 2, 3):
        shutil.copy(folder / "images" / "a.png", folder / "images" / f"{number}.png")
    parsed: list[Path] = []
    elements = cvat._elements
    monkeypatch.setattr(cvat, "_elements", lambda file: (parsed.append(file), elements(file))[1])
    source = find_source(folder)
    found: dict[str, list[str]] = {name: [] for name in source.splits}
    read = {
        name: source.read(name, report=lambda finding, told=told: told.append(str(finding.id)))
        for name, told in found.items()
    }
    assert len(parsed) == 1
    assert {name: [it.path.name for it in data.samples] for name, data in read.items()} == {
        "train": ["1.png"], "val": ["2.png"], "default": ["a.png"], "more": ["3.png"]
    }  # fmt: skip
    assert found == {"train": ["1.png#1"], "val": ["2.png#1"], "default": [], "more": ["3.png#1"]}
    assert source.count_unread(read) == []
    with pytest.raises(DataError, match=r"image 1\.png: polygon 1"):
        source.read("train")
    folder.joinpath("annotations.xml").write_text("<annotations>" + images + "<image")  # broken off: an error for each
    source = find_source(folder)
    for name in source.splits:
        with pytest.raises(DataError, match="not valid XML"):
            source.read(name, report=lambda _: None)


def test_masks_that_stick_out_are_cut(tmp_path: Path) -> None:
    """As polygons are. 3×4 pixels from (38, −1): two columns and three rows lie inside."""
    folder = make(tmp_path, element("mask", rle="0, 12", left=38, top=-1, width=3, height=4))
    found: list[Finding] = []
    data = open_data(folder, report=found.append)
    (instance,) = data.samples[0].instances
    assert instance.box == (38, 0, 40, 3)
    assert decode(instance.shape.whole(HEIGHT, WIDTH)).sum() == 6
    assert [(it.kind, it.severity) for it in found] == [("outside", "warning")]
    assert f"{folder / 'annotations.xml'}: 1 masks stick out of their pictures; they are cut at the edge" in data.notes


def test_a_stray_point_in_a_group_does_not_cost_the_object(tmp_path: Path) -> None:
    shapes = element("polygon", points="1,1;2,2", group_id=7) + element("polygon", points=POINTS, group_id=7)
    data = open_data(make(tmp_path, shapes))
    assert len(data.samples[0].instances[0].shape.parts) == 1
    assert any("left out 1 polygons of fewer than three points" in note for note in data.notes)


def test_classes_of_a_file_without_labels(tmp_path: Path) -> None:
    data = open_data(make(tmp_path, element("polygon", points=POINTS, label="Ä 細胞"), head=""))
    assert data.classes == ("Ä 細胞",)


BAD = [
    (element("polygon", points=POINTS, label="cow"), "label 'cow' is not among the file's labels"),
    (element("polygon", points=POINTS, label=""), "'label' must be the name of a class"),
    (element("polygon", points="1,1;2,2"), "a polygon needs 3 points, got 2"),
    (element("polygon", points="1,1;2;3,3"), "'points' must be x,y;x,y;…"),
    (element("polygon", points="1,1;nan,2;3,3"), "'points' must be x,y;x,y;…"),
    (element("polygon"), "a polygon needs 3 points, got 0"),
    (element("box", xtl=4, ytl=2, xbr=9), "'ybr' must be a finite number of pixels, got None"),
    (element("box", xtl=4, ytl=2, xbr="1e99", ybr=9), "'xbr' must be a finite number of pixels, got '1e99'"),
    (element("ellipse", cx=4, cy=2, rx="x", ry=9), "'rx' must be a finite number"),
    (element("mask", rle="1, 2", left=0, top=0, width=2, height=2), "the runs of 'rle' do not sum to 2×2 pixels"),
    (element("mask", rle="1, -2, 5", left=0, top=0, width=2, height=2), "do not sum to 2×2"),
    (element("mask", rle="1, x", left=0, top=0, width=2, height=2), "'rle' must be whole numbers"),
    (element("mask", rle=f"{10**30}", left=0, top=0, width=2, height=2), "'rle' must be whole numbers"),
    (element("mask", rle="4", left=40, top=0, width=2, height=2), "lies outside 40×20 pixels"),
    (element("mask", rle="4", left=-2, top=-2, width=2, height=2), "lies outside 40×20 pixels"),
    (element("mask", rle="4", left=0, top=0, width=900000, height=900000), "does not fit a picture of 800 pixels"),
    (element("blob"), "not a shape of CVAT for images 1.1"),
]


@pytest.mark.parametrize(("shape", "line"), BAD)
def test_bad_shapes_are_one_line_or_left_out(
    tmp_path: Path, told: Told, collected: list[Finding], shape: str, line: str
) -> None:
    folder = make(tmp_path, shape + element("polygon", points=POINTS))
    said = told(open_data, folder)
    assert said.startswith(f"{folder / 'annotations.xml'}: image a.png: ")
    assert line in said
    data = open_data(folder, report=collected.append)
    assert [str(finding) for finding in collected] == [said]
    assert len(data.samples[0].instances) == 1


LAUGHS = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text[:-40], "not valid XML"),
        (lambda text: text.replace("<annotations>", LAUGHS + "<annotations>", 1), "has a document type or entities"),
        (lambda text: text.replace("utf-8", "no-such"), "annotations.xml: "),
        (lambda text: text.replace('width="40"', 'width="41"', 1), "says 41×20, but a.png has 40×20 pixels"),
        (lambda text: text.replace('name="a.png"', 'name="b.png"'), "b.png: no such file"),
        (lambda text: text.replace('name="a.png"', ""), "image 1: an <image> has no 'name'; export the task again"),
        (
            lambda text: text.replace('name="a.png"', 'name="a&#10;b.png"'),
            "'name' of an <image> holds control characters",
        ),
        (lambda text: text.replace("<image", "<track", 1).replace("</image", "</track"), "CVAT for video"),
        (lambda text: text.replace("<image", "<picture").replace("</image", "</picture"), "no <image>"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, told: Told, change: Callable[[str], str], line: str) -> None:
    folder = make(tmp_path, element("polygon", points=POINTS))
    file = folder / "annotations.xml"
    file.write_text(change(file.read_text()))
    assert line in told(open_data, folder)


def test_another_xml_is_no_data_set(tmp_path: Path, told: Told) -> None:
    (tmp_path / "a.xml").write_text("<annotation><object/></annotation>")  # as Pascal VOC has for boxes
    assert "not a data set of a known format" in told(open_data, tmp_path)


@pytest.mark.parametrize("name", ["coco_mini", "nuclei"])
def test_real_objects_as_cvat_would_hold_them(
    tmp_path: Path, sets: Path, truth: Any, drawn: Any, same: Any, name: str
) -> None:
    """One part as a polygon, several as grouped polygons, everything else as a mask."""
    coco, expected = truth(name, "val")
    root = Element("annotations")
    for number, image in coco.imgs.items():
        shutil.copytree(sets / name / "images", tmp_path / "images", dirs_exist_ok=True)
        size = {"width": str(image["width"]), "height": str(image["height"])}
        parent = SubElement(root, "image", {"id": str(number), "name": image["file_name"], **size})
        for each in coco.imgToAnns[number]:
            label = {"label": coco.cats[each["category_id"]]["name"], "group_id": str(each["id"])}
            if isinstance(each["segmentation"], list):
                for part in each["segmentation"]:
                    points = ";".join(f"{x},{y}" for x, y in zip(part[::2], part[1::2], strict=True))
                    SubElement(parent, "polygon", label | {"points": points})
                continue
            mask = coco.annToMask(each)
            (y0, x0), (y1, x1) = np.argwhere(mask).min(0).tolist(), np.argwhere(mask).max(0).tolist()
            cut = mask[y0 : y1 + 1, x0 : x1 + 1]
            place = {"left": x0, "top": y0, "width": cut.shape[1], "height": cut.shape[0]}
            SubElement(parent, "mask", label | {key: str(v) for key, v in place.items()} | {"rle": runs(cut)})
    ElementTree.ElementTree(root).write(tmp_path / "annotations.xml", encoding="utf-8", xml_declaration=True)
    same(drawn(open_data(tmp_path)), expected)


@pytest.mark.parametrize("size", [70_000, 700_000])
@pytest.mark.parametrize("part", ['<image name="a.png" subset="', "<image ", 'subset="x" ', "<a>"])
def test_a_crafted_file_is_searched_in_linear_time(tmp_path: Path, told: Told, part: str, size: int) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text("<annotations>" + part * (size // len(part)), encoding="utf-8")
    began = time.process_time()
    assert "not valid XML" in told(open_data, file)
    assert time.process_time() - began < 4  # a quadratic search took 4.6 s for the smaller file


def test_a_name_with_the_strokes_of_windows_and_a_file_in_utf_16(tmp_path: Path) -> None:
    folder = make(tmp_path, element("polygon", points=POINTS), beside="images/day1")
    file = folder / "annotations.xml"
    text = file.read_text().replace('name="a.png"', 'name="day1\\a.png"').replace("utf-8", "utf-16")
    file.write_bytes(text.encode("utf-16"))
    (sample,) = open_data(folder).samples
    assert (sample.path.name, len(sample.instances)) == ("a.png", 1)


@pytest.mark.parametrize(("subset", "name"), [("../../other", "a.png"), ("", "../../other/a.png"), ("", "OTHER/a.png")])
def test_no_name_leads_out_of_the_data_set(tmp_path: Path, told: Told, subset: str, name: str) -> None:
    """A neighbour's picture of the same size must not be taken."""
    folder, other = tmp_path / "mine", tmp_path / "other"
    make(folder, "")
    make(other, "", beside=".")
    name = name.replace("OTHER", str(other))
    image = f'<image id="1" name="{name}" subset="{subset}" width="{WIDTH}" height="{HEIGHT}"/>'
    shape = element("polygon", points=POINTS)
    file = folder / "annotations.xml"
    file.write_text(f"<annotations>{HEAD}{image.replace('/>', f'>{shape}</image>')}</annotations>")
    if subset:
        assert open_data(folder).samples[0].path.resolve() == (folder / "images" / "a.png").resolve()
    else:
        assert "a.png" in told(open_data, folder)
