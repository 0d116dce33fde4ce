"""Result: indexing, filtering, pictures, text. The formats of other programs are in instances/test_formats.py."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle

from condinst.errors import CondinstError, UsageError
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode

HEIGHT, WIDTH = 40, 60


def result_of(count: int = 4, names: tuple[str, ...] = ("cat", "dog")) -> Result:
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    rles = [encode(Region(np.ones((10, 8 + row), dtype=bool), 12 * row, 5), HEIGHT, WIDTH) for row in range(count)]
    xyxy = torch.tensor([[12.0 * row, 5, 12 * row + 8 + row, 15] for row in range(count)]).reshape(-1, 4)
    boxes = Boxes(xyxy, torch.linspace(0.9, 0.3, count), torch.arange(count) % len(names), (HEIGHT, WIDTH))
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


@pytest.mark.parametrize("index", ["cat", None, 1.5, [0.5, 1.0], {"a": 1}])
def test_indexing_with_a_wrong_type(index: object) -> None:
    with pytest.raises(
        IndexError, match="instances: expected a number, slice, list, or int or bool array, got"
    ) as told:
        result_of()[index]  # type: ignore[index]
    assert ("filter(classes=...)" in str(told.value)) == (index == "cat")


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


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"conf": 0.7}, [0, 1]),  # 0.9, 0.7, 0.5, 0.3
        ({"classes": "dog"}, [1, 3]),
        ({"classes": 0}, [0, 2]),
        ({"classes": ["dog", 0]}, [0, 1, 2, 3]),
        ({"classes": []}, []),
        ({"conf": 0.6, "classes": {"dog"}}, [1]),
    ],
)
def test_filter(settings: dict[str, Any], rows: list[int]) -> None:
    for whole in (result_of(), result_of().numpy()):
        part = whole.filter(**settings)
        assert part.conf.tolist() == whole.conf[rows].tolist()
        assert part.masks.rle == whole.masks[rows].rle


@pytest.mark.parametrize("conf", [-0.1, 2, "high", float("nan")])
def test_filter_refuses_what_is_no_score(conf: Any) -> None:
    with pytest.raises(UsageError, match="conf: expected a score from 0 to 1, got"):
        result_of().filter(conf=conf)


def test_filter_names_the_classes() -> None:
    with pytest.raises(UsageError, match="there is no class 'horse'; the classes are cat, dog"):
        result_of().filter(classes=["cat", "horse"])


def test_one_line_of_text() -> None:
    assert repr(result_of()) == "Result(4 instances: 2 cat, 2 dog, 60×40 pixels)"
    assert repr(result_of(0)) == "Result(0 instances, 60×40 pixels)"
    one = result_of(1).of(Path("a b.png"), None, {})
    assert repr(one) == "Result(1 instance: 1 cat, 60×40 pixels, path='a b.png')"
    many = result_of(4, tuple("abcdefgh"))
    text = repr(replace(many, boxes=replace(many.boxes[[0] * 8], cls=torch.arange(8)), masks=many.masks[[0] * 8]))
    assert text == "Result(8 instances: 1 a, 1 b, 1 c, 1 d, 1 e, 3 more classes, 60×40 pixels)"
    assert repr(result_of().boxes) == "Boxes(4 in 60×40 pixels)"
    assert repr(result_of().masks) == "Masks(4 of 60×40 pixels)"


def test_numpy_in_place_of_tensors() -> None:
    whole = result_of()
    arrays = whole.cpu().numpy()
    for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "data"):
        assert isinstance(getattr(arrays.boxes, name), np.ndarray)
        np.testing.assert_array_equal(getattr(arrays.boxes, name), getattr(whole.boxes, name).numpy())
    assert isinstance(arrays.masks.data, np.ndarray)
    np.testing.assert_array_equal(arrays.masks.data, whole.masks.data.numpy())
    assert arrays[[0, 2]].conf.tolist() == whole.conf[[0, 2]].tolist()
    assert arrays[arrays.conf > 0.6].cls.tolist() == [0, 1]
    np.testing.assert_array_equal(arrays.plot(), whole.plot())
    assert arrays.to_coco() == whole.to_coco()
    assert arrays.to_csv() == whole.to_csv()
    assert arrays.summary() == whole.summary()


def test_shorthands(tmp_path: Path) -> None:
    whole = result_of()
    assert whole.conf is whole.boxes.conf
    assert whole.cls is whole.boxes.cls
    assert [len(parts) for parts in whole.polygons] == [1] * 4
    assert whole.orig_img is whole.image
    Image.fromarray(whole.image).save(tmp_path / "picture.png")
    assert np.array_equal(whole.of(tmp_path / "picture.png", None, {}).orig_img, whole.image)


def test_notebooks_show_the_picture() -> None:
    with Image.open(io.BytesIO(result_of()._repr_png_())) as image:
        assert image.format == "PNG"
        assert max(image.size) <= 1024
    assert result_of().of(None, None, {})._repr_png_() is None
    large = result_of(0)
    image = np.zeros((30, 3000, 3), np.uint8)
    wide = replace(large, image=image, orig_shape=(30, 3000))
    with Image.open(io.BytesIO(wide._repr_png_())) as shown:
        assert shown.size[0] == 1024
        assert shown.size[1] >= 10


def test_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr("PIL.ImageShow.show", lambda image: shown.append(image) or True)
    result_of().show()
    assert np.array_equal(np.asarray(shown[0]), result_of().plot())
    monkeypatch.setattr("PIL.ImageShow.show", lambda image: False)
    with pytest.raises(UsageError, match=r"no program that shows pictures; use save\('overlay.png'\)"):
        result_of().show()


def test_label_image_numbers_the_instances(tmp_path: Path) -> None:
    """The better score has the pixels where masks overlap, in whatever order the instances stand."""
    rles = [encode(Region(np.ones((10, 20), dtype=bool), 5 * row, 5), HEIGHT, WIDTH) for row in range(3)]
    boxes = Boxes(torch.zeros(3, 4), torch.tensor([0.5, 0.9, 0.5]), torch.zeros(3, dtype=torch.int64), (HEIGHT, WIDTH))
    image = Result(boxes, Masks(tuple(rles), (HEIGHT, WIDTH)), {0: "a"}, (HEIGHT, WIDTH)).label_image()
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH), np.uint16)
    expected = np.zeros(WIDTH, int)
    expected[10:30] = 3
    expected[0:20] = 1  # of equal scores, the first
    expected[5:25] = 2
    assert image[5:15].tolist() == [expected.tolist()] * 10
    assert not image[:5].any()
    assert not image[15:].any()
    Image.fromarray(image).save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as again:
        assert np.array_equal(np.asarray(again), image)


def test_label_image_of_very_many_instances() -> None:
    one = result_of(1)
    many = one[[0] * 65_536]
    assert one[[0] * 65_535].label_image().dtype == np.uint16
    assert many.label_image().dtype == np.uint32
    assert many.label_image().max() == 1  # all of the same score and mask: the first has the pixels


def test_crops() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = replace(result_of(2), image=image)
    first, second = whole.crops()
    assert np.array_equal(first, image[5:15, 0:8])
    assert np.array_equal(second, image[5:15, 12:21])
    assert np.array_equal(whole.crops(padding=7)[0], image[0:22, 0:15])  # cut at the picture's edges
    cut = whole.crops(padding=2, alpha=True)[1]
    assert cut.shape == (14, 13, 4)
    assert np.array_equal(cut[..., :3], image[3:17, 10:23])
    expected = np.zeros((14, 13), bool)
    expected[2:12, 2:11] = True
    assert np.array_equal(cut[..., 3], expected * np.uint8(255))
    with pytest.raises(UsageError, match="padding of at least 0"):
        whole.crops(padding=-1)


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "webp"])
def test_save(tmp_path: Path, ending: str) -> None:
    target = tmp_path / "new" / f"overlay.{ending}"
    assert result_of().save(target) == target
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    with Image.open(target) as image:
        drawn = result_of().plot()
        assert image.size == (drawn.shape[1], drawn.shape[0])
        if ending == "png":
            assert np.array_equal(np.asarray(image), drawn)
    result_of().save(target, scale=1, legend=False)
    with Image.open(target) as image:
        assert image.size == (WIDTH, HEIGHT)


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
    assert np.array_equal(nothing.plot(scale=1), nothing.image)
