"""Result: indexing, exports, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle

from condinst.errors import CondinstError, UsageError
from condinst.inference.result import Boxes, Masks, Result
from condinst.ops.rle import Region, encode

HEIGHT, WIDTH = 40, 60


def result_of(count: int = 4, names: tuple[str, ...] = ("cat", "dog")) -> Result:
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    rles = [encode(Region(np.ones((10, 8 + row), dtype=bool), 12 * row, 5), HEIGHT, WIDTH) for row in range(count)]
    xyxy = torch.tensor([[12.0 * row, 5, 12 * row + 8 + row, 15] for row in range(count)]).reshape(-1, 4)
    boxes = Boxes(xyxy, torch.linspace(0.9, 0.3, count), torch.arange(count) % len(names))
    return Result(boxes, Masks(tuple(rles), (HEIGHT, WIDTH)), dict(enumerate(names)), (HEIGHT, WIDTH), image=image)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([3, 0], [3, 0]),
        ([], []),
        ([True, False, False, True], [0, 3]),
        (np.array([False, True, False, False]), [1]),
        (torch.tensor([2, 2, -1]), [2, 2, 3]),
        (torch.tensor([False] * 4), []),
        (torch.tensor(1), [1]),
    ],
)
def test_indexing(index: object, rows: list[int]) -> None:
    whole = result_of()
    part = whole[index]  # type: ignore[index]
    assert len(part) == len(part.boxes) == len(part.masks) == len(rows)
    assert torch.equal(part.boxes.xyxy, whole.boxes.xyxy[rows])
    assert part.boxes.conf.tolist() == whole.boxes.conf[rows].tolist()
    assert part.boxes.cls.tolist() == whole.boxes.cls[rows].tolist()
    assert torch.equal(part.masks.data, whole.masks.data[rows])
    assert part.names == whole.names


@pytest.mark.parametrize("index", [4, -5, [0, 9], torch.tensor([True, False])])
def test_indexing_outside(index: object) -> None:
    with pytest.raises(IndexError):
        result_of()[index]  # type: ignore[index]


def test_iteration_gives_single_instances() -> None:
    assert [one.boxes.cls.tolist() for one in result_of()] == [[0], [1], [0], [1]]


def test_masks_on_request() -> None:
    masks = result_of().masks
    for bitmap, rle, area in zip(masks.data, masks.rle, masks.areas, strict=True):
        assert np.array_equal(bitmap.numpy(), oracle.decode(rle).astype(bool))
        assert bitmap.sum() == area
    ((outer, holes),) = masks.polygons[1]
    assert holes == ()
    assert {tuple(point) for point in outer.tolist()} == {(12, 5), (21, 5), (21, 15), (12, 15)}


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


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG"])
def test_save(tmp_path: Path, ending: str) -> None:
    target = tmp_path / "new" / f"overlay.{ending}"
    assert result_of().save(target) == target
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    with Image.open(target) as image:
        assert image.size == (WIDTH, HEIGHT)
        if ending == "png":
            assert np.array_equal(np.asarray(image), result_of().plot())


def test_save_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be \.png"):
        result_of().save(tmp_path / "overlay.bmp")
    (tmp_path / "file").touch()
    with pytest.raises(CondinstError, match="cannot be written"):
        result_of().save(tmp_path / "file" / "overlay.png")


def test_plot_reads_the_file_again(tmp_path: Path) -> None:
    whole = result_of()
    Image.fromarray(whole.image).save(tmp_path / "picture.png")
    again = whole.of(tmp_path / "picture.png", None, {})
    assert np.array_equal(again.plot(), whole.plot())
    with pytest.raises(UsageError, match="neither path nor image"):
        whole.of(None, None, {}).plot()
    with pytest.raises(UsageError, match=r"expected an image of \(40, 60, 3\)"):
        whole.plot(np.zeros((5, 5, 3), dtype=np.uint8))


def test_an_empty_result() -> None:
    nothing = result_of(0)
    assert len(nothing) == 0
    assert nothing.masks.data.shape == (0, HEIGHT, WIDTH)
    assert nothing.masks.polygons == []
    assert nothing.to_coco() == []
    assert list(nothing) == []
    assert np.array_equal(nothing.plot(), nothing.image)
