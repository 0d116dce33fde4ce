"""Large files: tiles are read from the file, finished ones are kept, and overlays are drawn smaller."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.data.pictures.windows import pixels as windows
from condinst.errors import DataError, TooLargeError
from condinst.inference.instances import pixels
from condinst.inference.result import Result
from condinst.inference.tiles import run
from condinst.predictor import Predictor

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
DATA = Path(__file__).parents[2] / "data" / "nuclei"
TAGS = [
    (33550, "d", 3, (0.5, 0.5, 0.0)),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0)),
    (34735, "H", 12, (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32633)),
]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("nuclei", mode="exact", tile=160, max_pixels=1000)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled TIFF of 300×420 pixels with a smaller copy."""
    paths = sorted((DATA / "images").iterdir())
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    small = next(array for array in arrays if array.shape[:2] == (256, 256))
    array = np.tile(small, (2, 2, 1))[:300, :420]
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(array, tile=(128, 128), compression="deflate", photometric="rgb", subifds=1, extratags=TAGS)
        writer.write(array[::2, ::2], tile=(64, 64), compression="deflate", photometric="rgb", subfiletype=1)
    return path


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "LARGE", 100_000)
    monkeypatch.setattr(pixels, "LARGE", 100_000)


@pytest.fixture(scope="module")
def found(predictor: Predictor, slide: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LARGE", 100_000)
        return predictor(slide)


def same(one: Result, other: Result) -> None:
    assert one.masks.rle == other.masks.rle
    np.testing.assert_array_equal(one.boxes.xyxy.numpy(), other.boxes.xyxy.numpy())
    np.testing.assert_array_equal(one.boxes.conf.numpy(), other.boxes.conf.numpy())


def test_the_instances_equal_those_of_the_array(predictor: Predictor, slide: Path, found: Result) -> None:
    """`max_pixels` does not limit a file that is read tile by tile."""
    assert len(found) > 20
    same(found, predictor(tifffile.imread(slide)))
    assert found.path == slide
    assert found.image is None


def test_a_whole_picture_keeps_its_limit(slide: Path) -> None:
    with pytest.raises(TooLargeError):
        Predictor("nuclei", tile="off", max_pixels=1000)(slide)


def test_a_second_run_continues_after_the_finished_tiles(
    predictor: Predictor, slide: Path, found: Result, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []

    def stop(name: str, done: int, total: int) -> None:
        told.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(predictor.stream([slide], journal=tmp_path / "tiles", on_tile=stop))
    assert told == [(1, 12), (2, 12), (3, 12), (4, 12)]
    (kept,) = (tmp_path / "tiles").iterdir()
    lines = kept.read_bytes()
    assert lines.count(b"\n") == 5  # the key and four tiles
    kept.write_bytes(lines + b'[[1,2,3,4,"torn')
    seen: list[Path] = []
    count = CountedNetwork(predictor)
    with count:
        (again,) = predictor.stream([slide], journal=tmp_path / "tiles", on_tile=lambda *_: seen.append(kept))
    assert count.tiles == 8
    assert len(seen) == 12
    same(again, found)
    assert not (tmp_path / "tiles").exists()


class CountedNetwork:
    """Counts the pictures that pass through the network of a predictor."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.tiles = predictor, 0

    def __enter__(self) -> None:
        self.network = network = self.predictor.network

        class Counted:
            divisor = network.divisor

            def __call__(inner, images):  # type: ignore[no-untyped-def]  # noqa: N805
                self.tiles += len(images)
                return network(images)

        self.predictor.network = Counted()  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        self.predictor.network = self.network


@pytest.mark.parametrize("change", ["settings", "file", "damage"])
def test_tiles_of_another_run_do_not_count(predictor: Predictor, slide: Path, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "slide.tif"
    copy.write_bytes(slide.read_bytes())

    def stop(name: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(predictor.stream([copy], journal=tmp_path / "tiles", on_tile=stop))
    (kept,) = (tmp_path / "tiles").iterdir()
    conf = None
    if change == "settings":
        conf = 0.9
    elif change == "file":
        copy.write_bytes(slide.read_bytes() + b" ")
    else:
        lines = kept.read_bytes().splitlines(keepends=True)
        lines[1] = lines[1].replace(b",", b";", 1)
        kept.write_bytes(b"".join(lines))
    count = CountedNetwork(predictor)
    with count:
        (again,) = predictor.stream([copy], journal=tmp_path / "tiles", conf=conf)
    assert count.tiles == 12
    same(again, predictor(copy, conf=conf))


def test_a_damaged_tile_ends_the_picture_and_keeps_what_is_done(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "slide.tif"
    with tifffile.TiffFile(slide) as file:
        place = file.pages[0].dataoffsets[-1]
    content = bytearray(slide.read_bytes())
    content[place : place + 40] = b"\0" * 40
    copy.write_bytes(content)
    with pytest.raises(DataError, match="the part at x=384, y=256 is damaged"):
        list(predictor.stream([copy], journal=tmp_path / "tiles"))
    (kept,) = (tmp_path / "tiles").iterdir()
    assert kept.read_bytes().count(b"\n") > 5
    errors: list[str] = []
    assert not list(predictor.stream([copy], on_error=lambda _, error: errors.append(str(error))))
    assert len(errors) == 1


def test_the_remark_comes_first(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of many tiles takes long, so the user reads at once why it does."""
    config = Predictor("nuclei").config
    size = config.input.model_copy(update={"shorter": 40, "longer": 60})
    predictor = Predictor("nuclei")
    predictor.config = config.model_copy(update={"input": size})
    order: list[str] = []
    monkeypatch.setattr(warnings, "warn", lambda message, *_, **__: order.append(str(message)))
    list(predictor.stream([slide], on_tile=lambda *_: order.append("tile")))
    assert "condinst cuts it into" in order[0]
    assert order[1] == "tile"


def test_more_pixels_than_run_lengths_hold(predictor: Predictor, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LARGEST", 100)
    with pytest.raises(TooLargeError, match=r"420×300 pixels; masks of a picture hold at most 100 pixels"):
        predictor(slide)


def test_a_preview_has_the_masks_at_a_fraction_of_their_size(slide: Path, found: Result) -> None:
    small = found.preview(140)
    assert small.orig_shape == (100, 140)
    assert small.image is not None
    assert small.image.shape == (100, 140, 3)
    assert len(small) == len(found)
    np.testing.assert_allclose(small.boxes.xyxy.numpy() * 3, found.boxes.xyxy.numpy(), rtol=1e-6)
    for row in range(0, len(found), 5):
        whole = found.masks[row].data.numpy()[0]
        np.testing.assert_array_equal(small.masks[row].data.numpy()[0], whole[::3, ::3])
    assert found.preview(420) is found
    assert small.plot(scale=1, legend=False).shape == (100, 140, 3)


def test_a_mask_that_would_vanish_stays_a_pixel(found: Result) -> None:
    tiny = found.preview(4)
    assert (tiny.masks.areas > 0).all()


def test_crops_come_from_the_file(slide: Path, found: Result) -> None:
    array = tifffile.imread(slide)
    for one, crop in zip(found.boxes.xyxy.tolist()[:5], found[:5].crops(padding=3, alpha=True), strict=True):
        left, top = max(int(np.floor(one[0])) - 3, 0), max(int(np.floor(one[1])) - 3, 0)
        np.testing.assert_array_equal(crop[..., :3], array[top : top + crop.shape[0], left : left + crop.shape[1]])
    whole = found.masks[0].data.numpy()[0]
    assert (found[:1].crops(alpha=True)[0][..., 3] > 0).sum() == whole.sum()


def test_geojson_has_the_coordinates_of_a_geotiff(found: Result) -> None:
    earth, plain = found.to_geojson(), found.to_geojson(pixels=True)
    assert earth["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    assert "crs" not in plain
    for one, other in zip(earth["features"], plain["features"], strict=True):
        if one["geometry"]["type"] != "Polygon":
            continue
        ring, pixel = np.array(one["geometry"]["coordinates"][0]), np.array(other["geometry"]["coordinates"][0])
        expected = np.stack((500000 + 0.5 * pixel[:, 0], 4600000 - 0.5 * pixel[:, 1]), axis=1)
        np.testing.assert_array_equal(ring[:-1], expected[:-1][::-1])
        assert area(ring) > 0  # counter-clockwise
    assert json.dumps(earth)


def area(ring: np.ndarray) -> float:
    """Twice the signed area of a closed ring."""
    x, y = (ring - ring[0]).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
