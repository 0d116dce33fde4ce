"""COCO files of every legal spelling become samples; every other file one clear line."""

import copy
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as oracle
from pycocotools.coco import COCO

from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData, Polygons, RunLengths, skip_empty
from condinst.errors import DataError

DATA = Path(__file__).parent.parent.parent / "data"
MASK = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=np.uint8)  # 3 rows, 4 columns
COUNTS = [4, 1, 2, 2, 3]  # column by column: 0000 1 00 11 000
POLYGON = [0.5, 0.5, 3.0, 0.5, 3.0, 2.0]


def document() -> dict[str, Any]:
    text = oracle.encode(np.asfortranarray(MASK))["counts"].decode()
    shapes = [[[*POLYGON]], {"size": [3, 4], "counts": [*COUNTS]}, {"size": [3, 4], "counts": text}]
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "width": 4, "height": 3},
            {"id": 4, "file_name": "a.png", "width": 6, "height": 5},
        ],
        "categories": [{"id": 70, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {
                "id": i,
                "image_id": 9,
                "category_id": 70 if i else 3,
                "bbox": [1, 1, 2, 2],
                "iscrowd": 0,
                "segmentation": shape,
            }
            for i, shape in enumerate(shapes)
        ],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (4, 3)).save(path / "b.png")
    Image.new("RGB", (6, 5)).save(path / "a.png")
    (path / "broken.png").write_bytes(b"no picture")
    return path


def read(folder: Path, content: Any) -> AnnotatedData:
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return read_coco(path, folder)


def test_samples_keep_the_files_order_and_empty_pictures(folder: Path) -> None:
    data = read(folder, document())
    assert [(s.image_id, s.width, s.height, s.path.name) for s in data.samples] == [
        (9, 4, 3, "b.png"),
        (4, 6, 5, "a.png"),
    ]
    assert data.samples[1].instances == ()
    assert data.notes == ()


def test_labels_follow_the_sorted_category_ids(folder: Path) -> None:
    data = read(folder, document())
    assert data.category_ids == (3, 70)
    assert data.classes == ("dog", "cat")
    assert [instance.label for instance in data.samples[0].instances] == [0, 1, 1]


def test_polygons_and_both_rles(folder: Path) -> None:
    polygon, plain, compressed = read(folder, document()).samples[0].instances
    assert polygon.box == (1, 1, 3, 3)
    assert isinstance(polygon.shape, Polygons)
    assert polygon.shape.parts[0].tolist() == [[0.5, 0.5], [3, 0.5], [3, 2]]
    for instance in (plain, compressed):
        assert isinstance(instance.shape, RunLengths)
        assert (instance.shape.x, instance.shape.y) == (1, 1)
        assert instance.shape.decode().tolist() == [[1, 1], [0, 1]]


def test_crowds_are_marked(folder: Path) -> None:
    content = document()
    content["annotations"][1]["iscrowd"] = 1
    crowd = read(folder, content).samples[0].instances[1]
    assert crowd.crowd
    assert crowd.shape is not None


@pytest.mark.parametrize("absent", ["missing", None, [], [[]]])
def test_a_box_alone_is_read(folder: Path, absent: Any) -> None:
    content = document()
    content["annotations"][0]["segmentation"] = absent
    if absent == "missing":
        del content["annotations"][0]["segmentation"]
    assert read(folder, content).samples[0].instances[0].shape is None


def test_other_programs_spellings(folder: Path) -> None:
    """Ids as text or fractions, as the VGG Image Annotator and pandas write them, a polygon without its list, pictures
    without their size."""
    truth, content = read(folder, document()), document()
    content["images"][0] |= {"id": 9.0, "width": 4.0}
    content["categories"][1]["id"] = "3"
    for record in content["annotations"]:
        record |= {"id": float(record["id"]), "image_id": "9", "area": None, "iscrowd": None}
    content["annotations"][0]["segmentation"] = POLYGON
    del content["images"][1]["width"], content["images"][1]["height"]
    found = read(folder, content)
    assert (found.classes, found.category_ids) == (truth.classes, truth.category_ids)
    for sample, expected in zip(found.samples, truth.samples, strict=True):
        assert (sample.image_id, sample.width, len(sample.instances)) == (
            expected.image_id,
            expected.width,
            len(expected.instances),
        )
    shape = found.samples[0].instances[0].shape
    assert isinstance(shape, Polygons)
    assert shape.parts[0].ravel().tolist() == POLYGON


@pytest.mark.parametrize("absent", ["missing", None, []])
def test_a_box_that_is_not_stated_is_the_masks(folder: Path, absent: Any) -> None:
    content = document()
    for record in content["annotations"]:
        record["bbox"] = absent
        if absent == "missing":
            del record["bbox"]
    polygon, plain, compressed = read(folder, content).samples[0].instances
    assert polygon.box == (0.5, 0.5, 3, 2)
    assert plain.box == compressed.box == (1, 1, 3, 3)


@pytest.mark.parametrize(
    "name", ["images/{}", "images\\{}", "C:\\Users\\me\\{}", "/home/me/{}", "../../upload/1/{}", "./{}"]
)
def test_pictures_named_as_on_another_machine(tmp_path: Path, name: str) -> None:
    """With the folder, with strokes, from a root that is elsewhere: as long as one file can be meant."""
    (tmp_path / "images").mkdir()
    content = document()
    for record, size in zip(content["images"], [(4, 3), (6, 5)], strict=True):
        Image.new("RGB", size).save(tmp_path / "images" / record["file_name"])
        record["file_name"] = name.format(record["file_name"])
    (tmp_path / "train.json").write_text(json.dumps(content))
    data = read_coco(tmp_path / "train.json", tmp_path / "images")
    assert [sample.path.resolve() for sample in data.samples] == [tmp_path / "images" / n for n in ("b.png", "a.png")]
    content["images"][1]["file_name"] = "other/b.png"
    content["images"][0]["file_name"] = "one/b.png"
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"one/b\.png: no such file"):  # which of the two is it?
        read_coco(tmp_path / "train.json", tmp_path / "images")


def test_an_overlay_beside_the_results_is_not_the_picture(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for place, colour in ((photos, "red"), (out, "blue")):
        place.mkdir()
        Image.new("RGB", (8, 8), colour).save(place / "a.png")
    record = {"id": 1, "file_name": "photos/a.png", "width": 8, "height": 8, "overlay": "a.png"}
    document = {"images": [record], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (out / "results.json").write_text(json.dumps(document))
    assert read_coco(out / "results.json", photos).samples[0].path == photos / "a.png"
    with pytest.raises(DataError, match=r"no such file; name the folder of the pictures: --images FOLDER"):
        read_coco(out / "results.json", out)


def test_what_has_no_area_is_left_out_and_counted(folder: Path) -> None:
    content = document()
    content["annotations"][0] |= {"bbox": [1, 1, 0, 2], "segmentation": []}
    content["annotations"][1]["segmentation"]["counts"] = [12]
    data = read(folder, content)
    assert [instance.annotation_id for instance in data.samples[0].instances] == [2]
    assert data.notes == (f"{folder / 'train.json'}: left out 2 annotations whose box or mask covers no pixel",)


def test_pictures_without_objects_can_be_left_out(folder: Path) -> None:
    content = document()
    data = read(folder, content)
    kept = skip_empty(data)
    assert [sample.image_id for sample in kept.samples] == [9]
    assert kept.samples[0] is data.samples[0]
    assert kept.notes == ("left out 1 of 2 pictures without an annotated object",)
    assert (kept.classes, kept.category_ids) == (data.classes, data.category_ids)
    assert skip_empty(kept) is kept
    content["annotations"] = [content["annotations"][1] | {"iscrowd": 1, "image_id": 9}]
    assert skip_empty(read(folder, content)).samples == ()  # crowds are not trained on


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_stays_as_it_was(folder: Path, enabled: bool) -> None:
    """Also where reading fails."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        read(folder, document())
        assert gc.isenabled() == enabled
        with pytest.raises(DataError):
            read(folder, [])
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return apply


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return apply


BAD: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (drop("images"), "no 'images'"),
    (drop("categories"), "no 'categories'"),
    (change("annotations", to={}), "'annotations' must be a list, got an object"),
    (change("annotations", 1, to=5), r"annotations\[1\]: must be an object, got 5"),
    (change("categories", to=[]), "'categories' is empty"),
    (change("categories", 1, "name", to="cat"), "same name"),
    (change("categories", 1, "id", to=70), r"categories\[1\]: id 70 is used twice"),
    (change("categories", 0, "name", to=" \u00a0"), r"categories\[0\]: 'name' must be text"),
    (drop("categories", 0, "name"), r"categories\[0\]: 'name' must be text, got nothing"),
    (change("images", 1, "id", to=9), r"images\[1\]: id 9 is used twice"),
    (change("images", 1, "file_name", to="gone.png"), r"images\[1\] \(id 4\): .*gone\.png: no such file"),
    (change("images", 1, "file_name", to="broken.png"), r"broken\.png: not an image"),
    (change("images", 1, "file_name", to="a\x00.png"), "control characters"),
    (change("images", 1, "file_name", to="\ud800.png"), "half characters"),
    (change("images", 1, "width", to=5), r"images\[1\] \(id 4\): says 5×5, but a\.png has 6×5 pixels"),
    (drop("annotations", 1, "id"), r"annotations\[1\]: 'id' must be a whole number, got nothing"),
    (change("annotations", 1, "id", to=0), r"annotations\[1\]: id 0 is used twice"),
    (change("annotations", 1, "category_id", to=5), "annotation 1: category_id 5 is not among the file's categories"),
    (change("annotations", 1, "image_id", to=5), "annotation 1: image_id 5 is not among the file's images"),
    (change("annotations", 1, "image_id", to=True), "annotation 1: 'image_id' must be a whole number, got True"),
    (change("annotations", 1, "iscrowd", to="no"), "annotation 1: 'iscrowd' must be 0 or 1"),
    (change("annotations", 1, to={"id": 1, "image_id": 9, "category_id": 3}), "annotation 1: 'bbox' must be"),
    (change("annotations", 1, "segmentation", "size", to=[4, 3]), r"annotation 1: the RLE's size \[4, 3\] contradicts"),
    (change("annotations", 1, "segmentation", "counts", to=[4, 1, 2, 2, 4]), "annotation 1: not a COCO RLE"),
    (change("annotations", 1, "segmentation", "counts", to=[4, 1, 2, 2]), "annotation 1: the RLE's runs end before"),
    (change("annotations", 1, "segmentation", "counts", to=[4, -1, 2, 2, 5]), "annotation 1: not a COCO RLE"),
    (change("annotations", 1, "segmentation", "counts", to=None), "annotation 1: not a COCO RLE"),
    (change("annotations", 2, "segmentation", "counts", to="zz~"), "annotation 2: (not a COCO RLE|the RLE's runs)"),
    (change("annotations", 2, "segmentation", "counts", to=""), "annotation 2: the RLE's runs end before"),
    (change("annotations", 0, "segmentation", to="square"), "annotation 0: 'segmentation' must be polygons or an RLE"),
    (
        change("annotations", 0, "segmentation", to=POLYGON[:4]),
        r"annotation 0: segmentation\[0\] must be .*, got 4 num",
    ),
    (change("annotations", 0, "segmentation", to=["1", 2]), r"annotation 0: segmentation\[0\] must be .*, got '1'"),
    (change("annotations", 0, "segmentation", 0, to=[1, 1, 2, 2]), "annotation 0: .*, got 4 numbers"),
    (change("annotations", 0, "segmentation", 0, to=[*POLYGON, 1]), "annotation 0: .*, got 7 numbers"),
    (
        change("annotations", 0, "segmentation", 0, 3, to=float("inf")),
        r"annotation 0: 'segmentation\[0\]' must hold finite",
    ),
    (change("annotations", 0, "segmentation", 0, 3, to="1"), r"annotation 0: 'segmentation\[0\]' must hold finite"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_records_are_named_in_one_line(folder: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    content = document()
    spoil(content)
    with pytest.raises(DataError, match=message) as caught:
        read(folder, content)
    assert str(caught.value).startswith(str(folder / "train.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"7", b'{"a": ' + b"1" * 5000 + b"}"])
def test_files_that_are_no_coco_objects(folder: Path, text: bytes) -> None:
    path = folder / "bad.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"bad\.json: (not valid JSON|expected an object)"):
        read_coco(path, folder)


def test_missing_file(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_coco(folder / "none.json", folder)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [place for key, child in children for place in places(child, (*path, key))]


PLACES = places(document())
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, 1, 3, 4, 9, 70, -1]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_fuzzed_annotations_end_in_data_or_a_data_error(
    folder: Path, spoils: list[tuple[tuple[Any, ...], Any]]
) -> None:
    content = copy.deepcopy(document())
    for place, value in spoils:
        try:
            change(*place, to=value)(content)
        except (KeyError, IndexError, TypeError):  # an earlier change took this place away
            continue
    line = ""
    try:
        data = read(folder, content)
        assert len(data.classes) == len(data.category_ids) > 0
    except DataError as error:
        line = str(error)
    assert "\n" not in line


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.lists(st.integers(-3, 2**33), max_size=8))
def test_fuzzed_run_lengths(folder: Path, counts: str | list[int]) -> None:
    content = document()
    content["annotations"][1]["segmentation"]["counts"] = counts
    line = ""
    try:
        read(folder, content)
    except DataError as error:
        line = str(error)
    assert "\n" not in line


@pytest.mark.parametrize("name", ["nuclei", "coco_mini", "mushrooms"])
def test_real_files_hold_what_pycocotools_reads(name: str) -> None:
    annotations = DATA / name / "train.json"
    data, coco = read_coco(annotations, DATA / name / "images"), COCO(str(annotations))
    assert data.category_ids == tuple(sorted(coco.getCatIds()))
    assert [sample.image_id for sample in data.samples] == list(coco.imgs)
    masks = 0
    for sample in data.samples:
        assert {instance.annotation_id for instance in sample.instances} == set(coco.getAnnIds([sample.image_id]))
        for instance in sample.instances:
            record = coco.anns[instance.annotation_id]
            assert data.category_ids[instance.label] == record["category_id"]
            assert instance.crowd == bool(record["iscrowd"])
            if isinstance(instance.shape, RunLengths):
                whole = np.zeros((sample.height, sample.width), dtype=np.uint8)
                rows, columns = instance.shape.decode().shape
                whole[instance.shape.y : instance.shape.y + rows, instance.shape.x : instance.shape.x + columns] = (
                    instance.shape.decode()
                )
                assert np.array_equal(whole, coco.annToMask(record))
                masks += 1
    assert masks > 0 or name != "nuclei"


@pytest.mark.parametrize("short", [[[1.0, 2.0]], [[1, 2, 1, 2]], [[1, 1], [2.5, 2.5, 3, 3]]])
def test_parts_of_one_or_two_points_beside_a_polygon_are_left_out(folder: Path, short: list[list[float]]) -> None:
    content = document()
    content["annotations"][0]["segmentation"] = [short[0], POLYGON, *short[1:]]
    data = read(folder, content)
    (part,) = data.samples[0].instances[0].shape.parts  # type: ignore[union-attr]
    assert part.ravel().tolist() == POLYGON
    (note,) = data.notes
    assert note.endswith(
        f"left out {len(short)} polygons of fewer than three points; the other shapes of their objects are kept"
    )
    content["annotations"][0]["segmentation"] = short
    with pytest.raises(DataError, match=r"segmentation\[0\] must be"):
        read(folder, content)
    content["annotations"][0]["segmentation"] = [[1, "2"], POLYGON]
    with pytest.raises(DataError, match="got 2 numbers"):
        read(folder, content)
