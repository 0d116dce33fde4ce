"""Pictures of more than 8 bits: what becomes black and white, and what a user is told of the rest."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from make_tiff import colour_page, grey_page, pack_12, png_16, tiff

from condinst.config import Config
from condinst.data.pictures.image import Decoded, Reading, read_image, read_picture, read_size
from condinst.errors import DataError, UsageError
from condinst.settings.kinds import Range

SEED = np.random.default_rng(0)
FULL_16 = SEED.integers(0, 65536, (37, 54), dtype=np.uint16)
BITS_12 = (FULL_16 >> 4).astype(np.uint16)
COLOURS_12 = SEED.integers(0, 4096, (37, 54, 3), dtype=np.uint16)


def encoded(values: NDArray[Any], kind: str = "TIFF", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    return file.getvalue()


def read(content: bytes, range: Range = "full") -> Decoded:
    return read_picture(content, reading=Reading(1, range))


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """By the definition, one value at a time."""
    eight = [round((min(max(value, low), high) - low) * 255 / (high - low)) for value in values.ravel().tolist()]
    return np.array(eight, dtype=np.uint8).reshape(values.shape)


def kinds(picture: Decoded) -> list[str]:
    return [remark.kind for remark in picture.remarks]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_full_range_of_16_bits_is_as_without_a_range(kind: str) -> None:
    content = encoded(FULL_16, kind)
    assert (read(content).pixels == ((FULL_16.astype(np.uint32) + 128) // 257)[:, :, None]).all()
    assert (read(content, (0, 65535)).pixels == read(content).pixels).all()
    assert not read(content).remarks


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bits", "seen"), [(8, 1), (10, 4), (12, 16), (14, 64)])
def test_few_bits_in_16_are_told_and_a_range_shows_them(kind: str, bits: int, seen: int) -> None:
    values = (FULL_16 >> (16 - bits)).astype(np.uint16)
    picture = read(encoded(values, kind))
    assert kinds(picture) == ["unused-range"]
    assert f"the network sees 0 to {seen} of 255" in picture.remarks[0].message
    assert f"--range 0,{2**bits - 1}" in picture.remarks[0].remedy
    stated = read(encoded(values, kind), (0, 2**bits - 1))
    assert (stated.pixels[:, :, 1] == scaled(values, 0, 2**bits - 1)).all()
    assert not stated.remarks


def test_a_few_hot_pixels_do_not_hide_that_a_picture_is_dark() -> None:
    values = np.tile(BITS_12, (8, 8))
    values[3, 4] = 65535
    assert kinds(read(encoded(values))) == ["unused-range"]


def test_a_picture_of_one_value_is_not_told_to_be_dark() -> None:
    assert not read(encoded(np.full((9, 9), 7, dtype=np.uint16))).remarks


@pytest.mark.parametrize("range", ["auto", (0, 4095), (1000, 2000)])
def test_8_bit_pictures_have_a_range_of_their_own(range: Range) -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    colour = SEED.integers(0, 100, (9, 8, 3), dtype=np.uint8)
    for values in (grey, colour):
        assert (read(encoded(values, "PNG"), range).pixels == read(encoded(values, "PNG")).pixels).all()


def test_auto_goes_from_the_lowest_to_the_highest_thousandth() -> None:
    values = np.tile(BITS_12, (8, 8))
    values[3, 4] = 65535
    low, high = np.percentile(values, (0.1, 99.9))
    assert (read(encoded(values), "auto").pixels[:, :, 0] == scaled(values, low, high)).all()


def test_auto_of_one_value_is_black_and_of_two_is_black_and_white() -> None:
    values = np.full((50, 50), 9.0, dtype=np.float32)
    assert read(encoded(values), "auto").pixels.max() == 0
    values[0, 0] = 10
    assert sorted(set(read(encoded(values), "auto").pixels.ravel().tolist())) == [0, 255]


def test_float_takes_a_range() -> None:
    values = (BITS_12 / 4095).astype(np.float32)
    assert (read(encoded(values), (0, 1)).pixels[:, :, 2] == scaled(values, 0, 1)).all()
    assert read(encoded(values), "auto").pixels.max() == 255
    assert kinds(read(encoded(values), (0, 100))) == ["unused-range"]
    assert kinds(read(encoded(values), (0.2, 0.4))) == ["outside-range"]


def test_nan_is_black_infinity_is_clipped_and_both_are_counted() -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    for range in ((0.0, 1.0), "auto"):
        picture = read(encoded(values), range)  # type: ignore[arg-type]
        assert picture.pixels[[0, 1, 2], [0, 1, 2], 0].tolist() == [0, 255, 0]
        assert picture.remarks[0].message == "3 of its 400 values are NaN or infinite"
    with pytest.raises(DataError, match="every pixel is NaN or infinite"):
        read(encoded(np.full((3, 3), np.nan, dtype=np.float32)), (0, 1))


def test_extreme_floats_do_not_overflow() -> None:
    values = np.array([[-3e38, 0, 3e38]], dtype=np.float32)
    assert read(encoded(values), "auto").pixels[0, :, 0].tolist() in ([0, 127, 255], [0, 128, 255])


def test_12_bit_tiff_states_its_range() -> None:
    page = grey_page(BITS_12, 12, 1)._replace(data=pack_12(BITS_12))
    picture = read(tiff([page]))
    assert (picture.pixels[:, :, 0] == scaled(BITS_12, 0, 4095)).all()
    assert not picture.remarks


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_16_bits(order: str) -> None:
    values = (FULL_16.astype(np.int64) - 32768).astype(np.int16)
    content = tiff([grey_page(values, 16, 2, order)], order)
    with pytest.raises(DataError, match="do not fit 0 to 65535; state it"):
        read(content)
    assert (read(content, (-32768, 32767)).pixels[:, :, 0] == scaled(values, -32768, 32767)).all()
    positive = tiff([grey_page((values.astype(np.int32) // 2 + 16384).astype(np.int16), 16, 2, order)], order)
    assert read(positive).pixels.max() <= 128


def test_signed_8_bits_are_not_taken_for_unsigned() -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    content = tiff([grey_page(values, 8, 2)])
    with pytest.raises(DataError, match="from -128 to 127 do not fit"):
        read(content)
    assert (read(content, (-128, 127)).pixels[:, :, 0] == scaled(values, -128, 127)).all()


def test_unsigned_32_bits_above_the_half() -> None:
    values = FULL_16.astype(np.uint32) << 16
    content = tiff([grey_page(values, 32, 1)])
    assert (read(content, (0, 2**32 - 1)).pixels[:, :, 0] == scaled(values, 0, 2**32 - 1)).all()


def test_big_endian_and_white_is_zero() -> None:
    assert (read(tiff([grey_page(FULL_16, 16, 1, ">")], ">")).pixels == read(encoded(FULL_16)).pixels).all()
    inverted = read(tiff([grey_page(FULL_16, 16, 1, photometric=0)]))
    assert (inverted.pixels == 255 - read(encoded(FULL_16)).pixels).all()


@pytest.mark.parametrize("page", [grey_page(BITS_12.astype(np.float16), 16, 3), grey_page(BITS_12 / 1.0, 64, 3)])
def test_pixels_that_pillow_does_not_read_are_named(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match="a TIFF with pixels that need the extra 'tiff'"):
        read(tiff([page]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
def test_16_bit_colours_keep_both_bytes_where_a_range_is_stated(planar: bool, order: str) -> None:
    content = tiff([colour_page(COLOURS_12, planar, order)], order)
    assert (read(content).pixels == COLOURS_12 >> 8).all()
    assert kinds(read(content)) == ["unused-range"]
    assert (read(content, (0, 4095)).pixels == scaled(COLOURS_12, 0, 4095)).all()


def test_16_bit_colours_of_png_and_compressed_tiff() -> None:
    assert (read(png_16(COLOURS_12), (0, 4095)).pixels == scaled(COLOURS_12, 0, 4095)).all()
    assert kinds(read(png_16(COLOURS_12))) == ["unused-range"]
    wide = np.concatenate([COLOURS_12, np.full((37, 54, 1), 65535, dtype=np.uint16)], axis=2)
    wide[0, 0, 3] = 0
    expected = scaled(COLOURS_12, 0, 4095)
    expected[0, 0] = 0
    assert (read(png_16(wide), (0, 4095)).pixels == expected).all()
    with pytest.raises(DataError, match=r"16-bit pixels with alpha .* take no range"):
        read(png_16(wide[:, :, :2]), (0, 4095))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_wide_pictures_turn_upright_as_those_of_8_bits(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, object] = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    wide, eight = encoded(FULL_16, kind, **options), encoded(read(encoded(FULL_16)).pixels, kind, **options)
    assert (read(wide).pixels == read(eight).pixels).all()
    assert read_size(wide) == read(wide).pixels.shape[:2]


@pytest.mark.parametrize("bad", ["1,0", "nan,1", "0,inf", "x", "1", "1,2,3", "", 5, None, (3, 3), [1, 0]])
def test_a_bad_range_is_one_line(bad: object) -> None:
    with pytest.raises(UsageError, match="range: expected"):
        read_image(encoded(FULL_16), range=bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"input\.range: expected"):
        Config.from_dict({"input": {"range": bad}})


def test_a_range_goes_through_a_configuration_file(tmp_path: Path) -> None:
    for text, expected in (("0,4095", (0.0, 4095.0)), ("-1.5,1e3", (-1.5, 1000.0)), ("auto", "auto"), ("full", "full")):
        config = Config().with_overrides([f"input.range={text}"])
        assert config.input.range == expected
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert Config.from_yaml(tmp_path / "config.yaml") == config


def test_bytes_are_bounded_not_pixels_alone() -> None:
    def blank(mode: str) -> bytes:
        file = io.BytesIO()
        Image.new(mode, (100, 100)).save(file, "TIFF")
        return file.getvalue()

    for mode, bytes_each in (("F", 4), ("I", 4), ("CMYK", 4), ("RGBA", 4)):
        assert read_size(blank(mode), max_pixels=13_334) == (100, 100)
        with pytest.raises(DataError, match=f"100×100 pixels of {bytes_each} bytes take 40,000 bytes, over the limit"):
            read_size(blank(mode), max_pixels=10_000)
    for mode in ("L", "RGB", "I;16", "P", "1"):
        assert read_size(blank(mode), max_pixels=10_000) == (100, 100)
    with pytest.raises(DataError, match="pixels of 6 bytes"):
        read_size(png_16(COLOURS_12), max_pixels=2000)
