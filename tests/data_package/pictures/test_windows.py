"""Windows of TIFFs: the pixels are those of the whole picture, and only the parts that a window touches are decoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condinst.data.pictures.georeference import read_georeference
from condinst.data.pictures.image import Reading, read_picture
from condinst.data.pictures.windows import tiff
from condinst.data.pictures.windows.pixels import Windows, open_windows
from condinst.errors import DataError
from condinst.settings.kinds import Range

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
HEIGHT, WIDTH = 300, 410
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "tiles, deflate": {"tile": (128, 64), "compression": "deflate"},
    "strips, LZW": {"rowsperstrip": 64, "compression": "lzw"},
    "tiles": {"tile": (64, 64)},
    "big-endian": {"byteorder": ">", "rowsperstrip": 50},
    "predictor": {"tile": (128, 128), "compression": "deflate", "predictor": True},
}
KINDS: dict[str, tuple[str, int, str, float]] = {  # type, samples, what 0 is, largest value
    "grey": ("u1", 1, "minisblack", 255),
    "white is 0": ("u1", 1, "miniswhite", 255),
    "colour": ("u1", 3, "rgb", 255),
    "transparent": ("u1", 4, "rgb", 255),
    "16 bit": ("u2", 1, "minisblack", 40000),
    "16 bit, white is 0": ("u2", 1, "miniswhite", 40000),
    "16-bit colour": ("u2", 3, "rgb", 60000),
    "float": ("f4", 1, "minisblack", 3.5),
    "signed": ("i2", 1, "minisblack", 9000),
}


def write(path: Path, kind: str, layout: str) -> None:
    dtype, samples, photometric, largest = KINDS[kind]
    if layout == "predictor" and dtype == "f4":
        layout = "tiles, deflate"
    values = np.random.default_rng(7).random((HEIGHT, WIDTH, samples)) * largest
    array = values.astype(dtype)
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(
        path, array[..., 0] if samples == 1 else array, photometric=photometric, **extra, **LAYOUTS[layout]
    )


def opened(path: Path, range: Range = "full") -> Windows:
    file = open_windows(path, path.name, 1, range, least=1)
    assert file is not None
    return file


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_window_equals_the_whole_picture(tmp_path: Path, kind: str, layout: str) -> None:
    path = tmp_path / "a.tif"
    write(path, kind, layout)
    dtype = KINDS[kind][0]
    ranges: list[Range] = ["auto", (0, KINDS[kind][3] / 2)] if dtype == "f4" else ["full", "auto", (10, 5000)]
    for range in ranges if dtype != "u1" else ["full"]:
        whole = read_picture(path, None, Reading(1, range)).pixels
        file = opened(path, range)
        assert file.size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(file.part(37, 21, 333, 290), whole[21:290, 37:333])
        np.testing.assert_array_equal(file.part(0, 0, WIDTH, HEIGHT), whole)
        np.testing.assert_array_equal(file.part(WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT), whole[-1:, -1:])
        file.close()


def test_jpeg_tiles_and_later_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    array = np.random.default_rng(1).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page, tile=(128, 128), compression="jpeg", photometric="rgb")
    for page in (1, 2):
        file = open_windows(path, "a", page, least=1)
        assert file is not None
        whole = tifffile.imread(path, key=page - 1)
        np.testing.assert_array_equal(file.part(100, 50, 400, 260), whole[50:260, 100:400])
        file.close()


@pytest.mark.parametrize("step", [2, 3, 7, 64])
def test_a_smaller_copy_has_the_means_of_its_pixels(tmp_path: Path, step: int) -> None:
    path = tmp_path / "a.tif"
    write(path, "colour", "tiles, deflate")
    small = opened(path).shrunk(step)
    whole = read_picture(path).pixels.astype(np.float64)
    assert small.shape == (-(-HEIGHT // step), -(-WIDTH // step), 3)
    full = whole[: HEIGHT // step * step, : WIDTH // step * step]
    means = full.reshape(HEIGHT // step, step, WIDTH // step, step, 3).mean((1, 3))
    assert np.abs(small[: HEIGHT // step, : WIDTH // step] - means).max() <= 1  # Pillow rounds


def test_only_what_a_window_touches_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    write(path, "colour", "tiles, deflate")
    file = opened(path)
    seen: list[int] = []
    parts = file._parts
    assert isinstance(parts, tiff.TiffParts)
    decode = parts._decode
    monkeypatch.setattr(parts, "_decode", lambda index: (seen.append(index), decode(index))[1])
    file.part(0, 0, 64, 128)
    assert seen == [0]
    file.part(60, 100, 70, 130)  # four tiles meet here; the first was decoded a moment ago
    assert seen == [0, 1, 7, 8]
    monkeypatch.setattr(tiff, "CACHE", 0)
    file.part(0, 0, WIDTH, HEIGHT)
    assert len(parts._kept) == 1


def test_small_pictures_and_those_that_need_the_whole(tmp_path: Path) -> None:
    colours = np.zeros((60, 80, 3), np.uint8)
    tifffile.imwrite(tmp_path / "small.tif", colours, photometric="rgb", tile=(16, 16))
    assert open_windows(tmp_path / "small.tif", "a") is None
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(colours, 2, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "turned.tif", colours, photometric="rgb", extratags=[(274, "H", 1, 6)])
    (tmp_path / "no.tif").write_bytes(b"II*\0 nothing")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("planes.tif", "turned.tif", "no.tif", "a.png"):
        assert open_windows(tmp_path / name, name, least=1) is None
    assert open_windows(tmp_path / "small.tif", "a", page=2, least=1) is None


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, "colour", "tiles, deflate")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[8]
    content = bytearray(path.read_bytes())
    content[place : place + 40] = b"\0" * 40
    path.write_bytes(content)
    broken = opened(path)
    assert broken.part(0, 0, 64, 128).any()
    with pytest.raises(DataError, match=r"^a\.tif: the part at x=64, y=128 is damaged \(.*\); replace the file$"):
        broken.part(64, 128, 128, 256)


def test_dark_values_are_told_and_floats_need_a_range(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "dark.tif", np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) % 4000)
    (remark,) = opened(tmp_path / "dark.tif").remarks
    assert remark.kind == "unused-range"
    assert remark.message.startswith("in a sample of its pixels, values from 0 to 3999 use a small part of the range")
    write(tmp_path / "float.tif", "float", "tiles")
    with pytest.raises(DataError, match=r"^float\.tif: float pixels .* do not state a range"):
        open_windows(tmp_path / "float.tif", "float.tif", least=1)


def test_jpeg_2000_by_rasterio(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    from rasterio.transform import from_origin

    rng = np.random.default_rng(5)
    for dtype, bands in (("uint8", 3), ("uint8", 1), ("uint16", 1)):
        path = tmp_path / f"{dtype}-{bands}.jp2"
        array = rng.integers(0, np.iinfo(dtype).max, (bands, HEIGHT, WIDTH), dtype=dtype)
        options = {"QUALITY": "100", "REVERSIBLE": "YES", "YCC": "NO"}
        place = {"crs": "EPSG:3035", "transform": from_origin(10, 20, 2, 2)}
        with rasterio.open(
            path, "w", driver="JP2OpenJPEG", width=WIDTH, height=HEIGHT, count=bands, dtype=dtype, **options, **place
        ) as file:
            file.write(array)
        windows = opened(path)
        expected = np.moveaxis(array if dtype == "uint8" else np.rint(array / 257).astype(np.uint8), 0, 2)
        expected = np.repeat(expected, 3 // bands, axis=2)
        np.testing.assert_array_equal(windows.part(37, 21, 333, 290), expected[21:290, 37:333])
        assert windows.shrunk(10).shape == (30, 41, 3)
        earth = read_georeference(path)
        assert earth is not None
        assert earth.place(1, 1) == (12, 18)
        assert earth.epsg == 3035
    (tmp_path / "damaged.jp2").write_bytes(path.read_bytes()[:300])
    assert open_windows(tmp_path / "damaged.jp2", "a", least=1) is None
