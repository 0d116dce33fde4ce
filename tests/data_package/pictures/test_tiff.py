"""TIFFs with pixels that Pillow does not know, against the arrays that tifffile wrote."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condinst.data.formats.masks.label_picture import read_numbers
from condinst.data.pictures.image import Reading, read_image, read_orientation, read_picture, read_size
from condinst.data.pictures.pages import choose_pages, note_pages
from condinst.errors import DataError

tifffile = pytest.importorskip("tifffile", reason="the extra 'tiff' is not installed")

HEIGHT, WIDTH = 12, 17
GREY = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 5  # 0 to 1015
COLOUR = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
ALPHA = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def expected(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.rint((values.astype(np.float64).clip(low, high) - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i8", "u8", "u4", "i4", "u2", "i2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}, {"tile": (16, 16)}])
def test_numbers_of_every_size(kind: str, order: str, options: dict[str, Any]) -> None:
    content = tiff(GREY.astype(order + kind), byteorder=order, **options)
    assert read_size(content) == (HEIGHT, WIDTH)
    pixels = read_image(content, range=(0, 1000))
    assert np.array_equal(pixels, expected(GREY, 0, 1000)[..., None].repeat(3, 2))
    assert np.array_equal(read_numbers(content, "a", 1000), GREY)
    if kind[0] == "f":
        with pytest.raises(DataError, match="float pixels from 0 to 1015 do not state a range"):
            read_image(content)


@pytest.mark.parametrize(("bits", "most"), [(10, 1023), (12, 4095), (14, 16383)])
def test_packed_bits(bits: int, most: int) -> None:
    pytest.importorskip("imagecodecs")
    assert np.array_equal(read_image(tiff(GREY.astype(np.uint16), bitspersample=bits))[..., 0], expected(GREY, 0, most))


def test_white_as_zero_and_orientation() -> None:
    content = tiff(GREY.astype(np.uint64), photometric="miniswhite", extratags=[(274, "H", 1, 6, True)])
    assert read_orientation(content) == 6
    assert read_size(content) == (WIDTH, HEIGHT)
    turned = 255 - np.rot90(expected(GREY, 0, 1000), -1)
    assert np.array_equal(read_image(content, range=(0, 1000))[..., 0], turned)


def test_grey_with_alpha() -> None:
    values = np.stack((GREY.astype(np.uint16) * 60, ALPHA), axis=2)
    pixels = read_image(tiff(values, photometric="minisblack", extrasamples=["unassalpha"]), range=(0, 60_000))
    over_black = expected(GREY * 60, 0, 60_000) * (ALPHA / 65535)
    assert np.abs(pixels - over_black[..., None]).max() <= 0.51


@pytest.mark.parametrize("options", [{"planarconfig": "separate", "compression": "deflate"}, {"compression": "lzw"}])
def test_compressed_16_bit_colours_with_a_range(options: dict[str, Any]) -> None:
    if options["compression"] == "lzw":
        pytest.importorskip("imagecodecs")
    laid = COLOUR.transpose(2, 0, 1) if "planarconfig" in options else COLOUR
    pixels = read_image(tiff(laid, photometric="rgb", **options), range=(1000, 30_000))
    assert np.array_equal(pixels, expected(COLOUR, 1000, 30_000))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_what_is_no_picture_is_one_line() -> None:
    for values, options, line in (
        (GREY.astype(np.complex64), {}, "1 channels of complex64"),
        (
            np.stack([GREY] * 5, 2).astype(np.uint8),
            {"planarconfig": "contig", "photometric": "minisblack"},
            "5 channels",
        ),
    ):
        with pytest.raises(DataError, match=line) as caught:
            read_image(tiff(values, **options))
        assert "\n" not in str(caught.value)
    whole = tiff(GREY.astype(np.float64), compression="deflate")
    for end in range(8, len(whole), 7):
        with pytest.raises(DataError):
            read_image(whole[:end], range="auto")
    with pytest.raises(DataError, match="17×12 = 204 pixels is over the limit of 100"):
        read_image(whole, max_pixels=100)
    with pytest.raises(DataError, match="pixels of 8 bytes take 1,632 bytes, over the limit of 900"):
        read_image(whole, max_pixels=300)


def test_16_bit_cmyk_takes_no_range() -> None:
    content = tiff(np.concatenate((COLOUR, COLOUR[..., :1]), 2), photometric="separated")
    assert read_image(content).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DataError, match="16-bit CMYK takes no range; save the picture as RGB"):
        read_image(content, range="auto")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r"a\.tif: .* the extra 'tiff', .* \(pip install 'condinst\[tiff\]'\)"):
        read_image(tiff(GREY.astype(np.float64)), "a.tif")


def stack(path: Path, pages: list[tuple[NDArray[Any], dict[str, Any]]]) -> Path:
    with tifffile.TiffWriter(path) as file:
        for values, options in pages:
            file.write(values, contiguous=False, **options)
    return path


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    large, small = (COLOUR >> 8).astype(np.uint8), (COLOUR[::4, ::4] >> 8).astype(np.uint8)
    copy = (small, {"photometric": "rgb", "subfiletype": 1})
    behind = stack(tmp_path / "behind.tif", [(large, {"photometric": "rgb"}), copy])
    first = stack(tmp_path / "first.tif", [copy, (large, {"photometric": "rgb"})])
    inside = stack(tmp_path / "inside.tif", [(large, {"photometric": "rgb", "subifds": 1}), copy])
    floats = stack(
        tmp_path / "floats.tif",
        [(GREY.astype(np.float64), {}), (GREY[::4, ::4].astype(np.float64), {"subfiletype": 1})],
    )
    for path in (behind, inside):
        assert read_picture(path).pages == 1
        assert not read_picture(path).remarks
        assert read_image(path).shape == (HEIGHT, WIDTH, 3)
    assert read_picture(floats, reading=Reading(range=(0, 1000))).pages == 1
    assert [remark.kind for remark in read_picture(first).remarks] == ["several-pages"]  # the thumbnail is read
    for path, wanted in ((behind, (1,)), (first, (2,)), (floats, (1,))):
        pages = choose_pages(path, None)
        assert pages is not None
        assert pages.wanted == wanted
        assert "left out 1 of 2 pages" in pages.notes[0]
    assert note_pages([behind, inside, floats]) is None


def test_pages_of_other_pixels_in_one_file(tmp_path: Path) -> None:
    path = stack(
        tmp_path / "a.tif", [(GREY.astype(np.uint8), {}), (GREY.astype(np.float16), {}), (GREY.astype(np.uint16), {})]
    )
    assert read_picture(path, reading=Reading(2, (0, 1000))).pixels.max() == 255
    assert read_picture(path, reading=Reading(3)).pixels.shape == (HEIGHT, WIDTH, 3)


def test_a_hot_pixel_does_not_spoil_the_suggested_range(tmp_path: Path) -> None:
    """10-bit values in 16 bits, and one broken pixel of 65535 among 40,000."""
    values = np.random.default_rng(0).integers(0, 1024, (200, 200)).astype(np.uint16)
    values[0, 0], values[5, 5] = 1023, 65535
    for name, array in (("a.png", values), ("b.tif", values.astype(np.uint32))):
        Image.fromarray(array).save(tmp_path / name) if name == "a.png" else tifffile.imwrite(tmp_path / name, array)
        (remark,) = read_picture(tmp_path / name).remarks
        assert remark.kind == "unused-range"
        assert "at most 0.01 % of the values lie above 1023" in remark.message
        assert "--range 0,1023," in remark.remedy
    values[5, 5] = 0
    Image.fromarray(values).save(tmp_path / "c.png")
    (remark,) = read_picture(tmp_path / "c.png").remarks
    assert "lie above" not in remark.message
    assert "--range 0,1023," in remark.remedy


def test_labels_of_64_bits_are_numbers(tmp_path: Path) -> None:
    """scikit-image saves labels as int64."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    labels[2:5, 2:9], labels[7:9, 3:8] = 1, 70_000
    tifffile.imwrite(tmp_path / "a.tif", labels)
    assert np.array_equal(read_numbers(tmp_path / "a.tif", "a", 1000), labels)
