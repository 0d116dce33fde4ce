"""Pictures of every kind become (H, W, 3) uint8 RGB, or one clear line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from condinst.data.pictures.image import list_images, read_image, read_size
from condinst.errors import DataError

REAL = Path(__file__).parents[2] / "data" / "coco_mini" / "images"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces its size and holds no pixel."""
    bodies = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND"]
    chunks = [struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in bodies]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_colour_is_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_image(encoded(Image.fromarray(pixels))), pixels)


def test_grey_fills_three_channels() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(read_image(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_linear_and_not_stretched(kind: str) -> None:
    grey = np.array([[0, 128, 129, 257], [1000, 32768, 65406, 65535]], dtype=np.uint16)
    expected = np.array([[0, 0, 1, 1], [4, 128, 254, 255]])  # 1000 / 257 = 3.89, 65406 / 257 = 254.498
    assert np.array_equal(read_image(encoded(Image.fromarray(grey), kind))[:, :, 1], expected)


def test_numbers_over_16_bits_are_refused() -> None:
    with pytest.raises(DataError, match="from 0 to 70000 do not fit 0 to 65535; state it with --range"):
        read_image(encoded(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF"))


def test_float_without_a_range_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.tif: float pixels from 1 to 1 do not state a range; state it"):
        read_image(encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF"), name="a.tif")


def test_palette_is_looked_up_and_its_transparent_entry_is_black() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert read_image(encoded(image)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert read_image(encoded(image, transparency=1)).tolist() == [[[10, 20, 30], [0, 0, 0], [70, 80, 90]]]


def test_transparency_is_composed_over_black() -> None:
    colour = Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], dtype=np.uint8))
    assert read_image(encoded(colour)).tolist() == [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]]
    grey = Image.fromarray(np.array([[[200, 255], [200, 0]]], dtype=np.uint8), "LA")
    assert read_image(encoded(grey)).tolist() == [[[200] * 3, [0] * 3]]


def test_cmyk_and_black_and_white() -> None:
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    assert np.abs(read_image(encoded(inks, "JPEG", quality=95)).astype(int) - [255, 0, 0]).max() <= 6
    bits = Image.fromarray(np.array([[True, False]]))
    assert read_image(encoded(bits)).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    upright = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    # EXIF: the stored first row and first column are which sides of the upright picture?
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),  # row: left side, column: top
        6: upright[:, ::-1].transpose(1, 0, 2),  # row: right side, column: top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # row: right side, column: bottom
        8: upright[::-1].transpose(1, 0, 2),  # row: left side, column: bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert np.array_equal(read_image(data), upright)
    assert read_size(data) == (4, 6)


def test_one_pixel() -> None:
    assert read_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(Image.new("RGB", (3, 2)), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert read_image(data).shape == (2, 3, 3)
    assert read_size(data) == (2, 3)


@pytest.mark.parametrize("read", [read_image, read_size])
def test_oversized_header_is_refused_before_decoding(read: object, tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(png_header(30_000, 30_000))
    with pytest.raises(DataError, match=r"big\.png: 30000×30000 = 900,000,000 pixels is over the limit of 200,000,000"):
        read(path)  # type: ignore[operator]


def test_the_limit_is_adjustable_both_ways() -> None:
    data = encoded(Image.new("RGB", (10, 10)))
    assert read_image(data, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(DataError, match="over the limit of 99;"):
        read_image(data, max_pixels=99)
    # over Pillow's own limit, below ours: the header passes, so the missing pixels are what is wrong
    assert read_size(png_header(30_000, 30_000), max_pixels=10**9) == (30_000, 30_000)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    jpeg = encoded(Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    cases = {
        "empty.png": (b"", "the file is empty"),
        "notes.txt": (b"no picture at all", "not an image"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged image"),
        "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not an image"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    for missing in (tmp_path / "none.png", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(DataError):
            read_image(missing)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_end_in_an_array_or_a_data_error(data: st.DataObject) -> None:
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"]))
    damaged = bytearray(encoded(image, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    line = ""
    try:
        array = read_image(bytes(damaged), max_pixels=1_000_000)
        assert array.dtype == np.uint8
        assert array.shape[2:] == (3,)
    except DataError as error:
        line = str(error)
    assert "\n" not in line


def test_a_tiff_without_a_single_width() -> None:
    """Pillow gives a tuple as the width; its product with a large height would take gigabytes."""
    damaged = bytearray(encoded(Image.new("RGB", (8, 8)), "TIFF"))
    entry = damaged.index(b"\x00\x01\x04\x00\x01\x00\x00\x00")  # the tag of the width: 256, long, one value
    damaged[entry + 4] = 0
    with pytest.raises(DataError, match="no single width and height") as caught:
        read_image(bytes(damaged))
    assert "\n" not in str(caught.value)


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "odd.dat"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "c.png").write_bytes(b"x")
    (tmp_path / "none").mkdir()
    a, b, odd, inside = tmp_path / "a.JPG", tmp_path / "b.png", tmp_path / "odd.dat", tmp_path / "inside" / "c.png"
    assert list_images([str(tmp_path)]) == [a, b]
    assert list_images([str(odd), str(b), str(tmp_path)]) == [odd, b, a]
    assert list_images([str(tmp_path / "**" / "*.png")]) == [b, inside]
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        list_images([str(tmp_path / "gone.png")])
    with pytest.raises(DataError, match="the folder has no pictures"):
        list_images([str(tmp_path / "none")])
    with pytest.raises(DataError, match="the pattern has no pictures"):
        list_images([str(tmp_path / "*.txt")])


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path) -> None:
    (tmp_path / "shot[1].png").write_bytes(b"x")
    assert list_images([str(tmp_path / "shot[1].png")]) == [tmp_path / "shot[1].png"]


def test_real_pictures() -> None:
    for path in list_images([str(REAL)]):
        assert read_image(path).shape == (*read_size(path), 3)


def test_the_orientation_of_a_png_is_read_without_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunk eXIf may lie before the pixels or behind them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG", exif=exif)
    before = stream.getvalue()
    start = before.index(b"eXIf") - 4
    chunk = before[start : start + 12 + int.from_bytes(before[start : start + 4], "big")]
    behind = before.replace(chunk, b"")
    behind = behind[:-12] + chunk + behind[-12:]
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG")
    for content, size in ((before, (30, 20)), (behind, (30, 20)), (stream.getvalue(), (20, 30))):
        assert read_size(content) == size
        assert read_image(content).shape[:2] == size
    monkeypatch.setattr(PngImageFile, "load_prepare", lambda *_: pytest.fail("decoded"))
    assert read_size(before) == (30, 20)
    assert read_size(stream.getvalue()) == (20, 30)
