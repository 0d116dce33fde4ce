"""Results in the formats of other programs, read back by these programs or by condinst's own readers."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as oracle

from condinst.data.open import open_data
from condinst.data.sample import AnnotatedData
from condinst.errors import UsageError
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, decode, encode

HEIGHT, WIDTH = 40, 60


def result_of(count: int = 4, names: tuple[str, ...] = ("cat", "dog")) -> Result:
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    rles = [encode(Region(np.ones((10, 8 + row), dtype=bool), 12 * row, 5), HEIGHT, WIDTH) for row in range(count)]
    xyxy = torch.tensor([[12.0 * row, 5, 12 * row + 8 + row, 15] for row in range(count)]).reshape(-1, 4)
    boxes = Boxes(xyxy, torch.linspace(0.9, 0.3, count), torch.arange(count) % len(names), (HEIGHT, WIDTH))
    return Result(boxes, Masks(tuple(rles), (HEIGHT, WIDTH)), dict(enumerate(names)), (HEIGHT, WIDTH), image=image)


def difficult() -> Result:
    """Masks of one part, of three parts, with holes in a hole, of single pixels that touch at a corner, and full."""
    bitmaps = np.zeros((5, HEIGHT, WIDTH), dtype=bool)
    bitmaps[0, 3:9, 2:17] = True
    bitmaps[1, 0:4, 50:60] = bitmaps[1, 30:40, 0:3] = bitmaps[1, 20, 20] = True
    bitmaps[2, 10:30, 10:40] = True
    bitmaps[2, 13:27, 13:37] = False
    bitmaps[2, 16:24, 16:34] = True
    bitmaps[2, 18:20, 18:20] = False
    bitmaps[3, 5, 5] = bitmaps[3, 6, 6] = bitmaps[3, 7, 5] = True
    bitmaps[4] = True
    rles = tuple(encode(Region(bitmap, 0, 0), HEIGHT, WIDTH) for bitmap in bitmaps)
    boxes = Boxes(torch.zeros(5, 4), torch.linspace(0.9, 0.5, 5), torch.tensor([0, 1, 0, 1, 1]), (HEIGHT, WIDTH))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Result(boxes, Masks(rles, (HEIGHT, WIDTH)), {0: "cat", 1: "big dog"}, (HEIGHT, WIDTH), image=image)


def check_same(data: AnnotatedData, result: Result) -> None:
    """The picture, the classes and every pixel."""
    (sample,) = data.samples
    assert (sample.height, sample.width) == result.orig_shape
    assert len(sample.instances) == len(result)
    for instance, one in zip(sample.instances, result, strict=True):
        assert data.classes[instance.label] == one.names[int(one.cls)]
        assert instance.shape is not None
        assert np.array_equal(decode(instance.shape.whole(HEIGHT, WIDTH)), decode(one.masks.rle[0]))


def test_to_coco_is_json_that_pycocotools_reads() -> None:
    records = json.loads(json.dumps(result_of().to_coco(image_id=7, category_ids={0: 18, 1: 3})))
    assert [record["category_id"] for record in records] == [18, 3, 18, 3]
    for row, record in enumerate(records):
        assert record["image_id"] == 7
        assert record["bbox"] == [12 * row, 5, 8 + row, 10]
        assert record["score"] == pytest.approx(0.9 - 0.2 * row)
        assert record["area"] == oracle.area(record["segmentation"]) == 10 * (8 + row)
    assert [record["category_id"] for record in result_of().to_coco()] == [1, 2, 1, 2]
    with pytest.raises(UsageError, match=r"no id for label 1 \(dog\)"):
        result_of().to_coco(category_ids={0: 18})


def test_to_df() -> None:
    pytest.importorskip("pandas")
    table = result_of().to_df()
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name", "area"]
    assert table.name.tolist() == ["cat", "dog", "cat", "dog"]
    assert table.area.tolist() == [80, 90, 100, 110]
    assert len(result_of(0).to_df()) == 0


def test_to_supervision() -> None:
    pytest.importorskip("supervision")
    detections = result_of().to_supervision()
    assert np.array_equal(detections.mask, result_of().masks.data.numpy())
    assert detections.class_id.tolist() == [0, 1, 0, 1]
    assert detections.data["class_name"].tolist() == ["cat", "dog", "cat", "dog"]
    assert len(result_of(0).to_supervision()) == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        result_of().to_df()


def test_to_supervision_of_arrays() -> None:
    pytest.importorskip("supervision")
    detections = result_of().numpy().to_supervision()
    assert np.array_equal(detections.xyxy, result_of().boxes.xyxy.numpy())
    assert np.array_equal(detections.confidence, result_of().conf.numpy())


def test_to_csv_has_the_values_of_to_df() -> None:
    rows = list(csv.DictReader(io.StringIO(result_of().to_csv())))
    assert [row["name"] for row in rows] == ["cat", "dog", "cat", "dog"]
    assert [row["area"] for row in rows] == ["80", "90", "100", "110"]
    assert [row["score"] for row in rows] == ["0.9000", "0.7000", "0.5000", "0.3000"]
    assert [rows[1][edge] for edge in ("x1", "y1", "x2", "y2")] == ["12.00", "5.00", "21.00", "15.00"]
    assert list(rows[0]) == ["x1", "y1", "x2", "y2", "score", "label", "name", "area"]
    assert result_of(0).to_csv() == "x1,y1,x2,y2,score,label,name,area\n"
    quoted = result_of(1, names=('a "b", c\nd',)).to_csv()
    assert next(csv.DictReader(io.StringIO(quoted)))["name"] == 'a "b", c\nd'


def test_summary_has_the_keys_of_ultralytics() -> None:
    whole = result_of()
    record = whole.summary()[1]
    assert list(record) == ["name", "class", "confidence", "box", "segments"]
    assert (record["name"], record["class"], record["confidence"]) == ("dog", 1, 0.7)
    assert record["box"] == {"x1": 12, "y1": 5, "x2": 21, "y2": 15}
    corners = set(zip(record["segments"]["x"], record["segments"]["y"], strict=True))
    assert corners == {(12, 5), (21, 5), (21, 15), (12, 15)}
    parts = whole.summary(normalize=True, decimals=3)[1]
    assert parts["box"] == {"x1": 0.2, "y1": 0.125, "x2": 0.35, "y2": 0.375}
    assert set(parts["segments"]["x"]) == {0.2, 0.35}
    assert json.loads(whole.to_json()) == whole.summary()
    assert json.loads(whole.to_json(True, 2)) == whole.summary(True, 2)
    assert result_of(0).to_json() == "[]"


def test_to_hf_is_what_the_pipeline_of_transformers_returns() -> None:
    """A list of dicts; mask: PIL image of mode L, 255 inside, in the size of the picture."""
    found = difficult().to_hf()
    assert [list(record) for record in found] == [["score", "label", "mask"]] * 5
    assert [record["label"] for record in found] == ["cat", "big dog", "cat", "big dog", "big dog"]
    assert all(isinstance(record["score"], float) for record in found)
    for record, bitmap in zip(found, difficult().masks.data.numpy(), strict=True):
        assert (record["mask"].mode, record["mask"].size) == ("L", (WIDTH, HEIGHT))
        assert np.array_equal(np.asarray(record["mask"]), bitmap * np.uint8(255))


def test_to_labelme_beside_a_picture_reads_back(tmp_path: Path) -> None:
    whole = difficult()
    assert whole.image is not None
    Image.fromarray(whole.image).save(tmp_path / "photo.png")
    saved = whole.of(tmp_path / "photo.png", None, {})
    document = saved.to_labelme()
    (tmp_path / "photo.json").write_text(json.dumps(document))
    check_same(open_data(tmp_path), whole)
    assert (document["imagePath"], document["imageData"]) == ("photo.png", None)
    assert {shape["score"] for shape in document["shapes"]} == {0.9, 0.8, 0.7, 0.6, 0.5}
    assert saved.to_labelme("../photos/photo.png")["imagePath"] == "../photos/photo.png"


def test_to_labelme_holds_a_picture_that_has_no_file(tmp_path: Path) -> None:
    whole = difficult()
    (tmp_path / "image.json").write_text(json.dumps(whole.to_labelme()))
    data = open_data(tmp_path)
    check_same(data, whole)


def test_to_yolo_reads_back(tmp_path: Path) -> None:
    whole = difficult()
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    assert whole.image is not None
    Image.fromarray(whole.image).save(tmp_path / "images" / "train" / "photo.png")
    (tmp_path / "labels" / "train" / "photo.txt").write_text(whole.to_yolo())
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": whole.names}))
    check_same(open_data(tmp_path, "train"), whole)
    assert [row.split()[0] for row in whole.to_yolo().splitlines()] == ["0", "1", "0", "1", "1"]
    assert result_of(0).to_yolo() == ""


def test_geojson_has_every_pixel_and_runs_as_the_standard_says() -> None:
    """Shapely reads the areas; RFC 7946 has outer rings counter-clockwise with y upwards."""
    shape = pytest.importorskip("shapely.geometry").shape
    whole = difficult()
    document = json.loads(json.dumps(whole.to_geojson()))
    assert document["type"] == "FeatureCollection"
    for feature, area, label in zip(document["features"], whole.masks.areas.tolist(), whole.cls.tolist(), strict=True):
        found = shape(feature["geometry"])
        assert found.area == area
        for polygon in getattr(found, "geoms", [found]):
            assert polygon.exterior.is_ccw
            assert not any(hole.is_ccw for hole in polygon.interiors)
        assert feature["properties"]["classification"]["name"] == whole.names[label]
        assert feature["properties"]["objectType"] == "detection"
    assert result_of(0).to_geojson() == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("method", ["to_labelme", "to_yolo", "to_geojson"])
def test_empty_masks_are_left_out_with_a_warning(method: str) -> None:
    whole = result_of(3)
    nothing = encode(Region(np.zeros((0, 0), dtype=bool), 0, 0), HEIGHT, WIDTH)
    masks = Masks((nothing, *whole.masks.rle[1:]), (HEIGHT, WIDTH))
    some = Result(whole.boxes, masks, whole.names, whole.orig_shape, image=whole.image)
    with pytest.warns(UserWarning, match=f"{method}: left out 1 of 3 instances with an empty mask") as told:
        written = getattr(some, method)()
    assert told[0].filename == __file__
    objects = {"to_labelme": "shapes", "to_geojson": "features"}
    assert len(written[objects[method]] if method in objects else written.splitlines()) == 2


def test_a_label_without_a_name() -> None:
    nameless = Result(result_of(2).boxes, result_of(2).masks, {}, (HEIGHT, WIDTH))
    assert [record["name"] for record in nameless.summary()] == ["0", "1"]
    assert [record["label"] for record in nameless.to_hf()] == ["0", "1"]
