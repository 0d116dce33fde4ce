"""Files that hold a picture in one of the newer formats, or several."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.data.pictures.image import SUFFIXES, Reading, read_image, read_picture, read_size
from condinst.data.pictures.pillow_limit import without_limit
from condinst.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
from make_tiff import grey_page, tiff

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(PIXELS[:3, :4]).resize((32, 24), Image.Resampling.BICUBIC))


def encoded(kind: str, pages: int = 1, **options: object) -> bytes:
    """Page n has n as its darkest value."""
    file = io.BytesIO()
    first, *others = (Image.fromarray(np.maximum(SMOOTH, 40 * number)) for number in range(pages))
    first.save(file, kind, save_all=True, append_images=others, **options)
    return file.getvalue()


def test_avif_is_read() -> None:
    content = encoded("AVIF", quality=95)
    assert read_size(content) == (24, 32)
    assert np.abs(read_image(content).astype(int) - SMOOTH).mean() < 4


def test_heic_is_read_and_nothing_is_registered_with_pillow() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(SMOOTH)).save(file, quality=95)
    assert read_size(file.getvalue()) == (24, 32)
    assert np.abs(read_image(file.getvalue()).astype(int) - SMOOTH).mean() < 4
    code = (
        "import io, sys; from PIL import Image; from condinst.data.pictures.image import read_image;"
        "read_image(sys.stdin.buffer.read()); assert '.heic' not in Image.registered_extensions()"
    )
    subprocess.run([sys.executable, "-c", code], input=file.getvalue(), check=True)


def test_heic_names_the_extra_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    with pytest.raises(DataError, match=r"a\.heic: HEIC .* extra 'heif' \(pip install 'condinst\[heif\]'"):
        read_image(tmp_path / "a.heic")


def test_a_damaged_heic_is_one_line() -> None:
    pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    with pytest.raises(DataError, match="image bytes: cannot be read as an image"):
        read_image(b"\0\0\0\x18ftypheic" + b"\0" * 40)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF", "MPO"])
def test_each_page_is_read_by_its_number(kind: str) -> None:
    options = {"TIFF": {}, "WEBP": {"lossless": True}, "PNG": {}, "GIF": {}}.get(kind, {"quality": 95})
    content = encoded(kind, 3, **options)
    assert read_picture(content).pages == 3
    for page in (1, 2, 3):
        picture = read_picture(content, reading=Reading(page))
        assert abs(int(picture.pixels.min()) - max(40 * (page - 1), int(SMOOTH.min()))) <= 24
    for page in (4, 0, -1):
        with pytest.raises(DataError, match=f"has no page {page}; its last page is 3"):
            read_image(content, page=page)


def test_pages_of_other_sizes_and_kinds_are_checked_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = np.zeros((5, 6), dtype=np.uint8), np.ones((40, 50), dtype=np.uint16)
    half = np.ones((5, 6), dtype=np.float16)
    content = tiff([grey_page(small, 8, 1), grey_page(large, 16, 1), grey_page(half, 16, 3), grey_page(small, 8, 1)])
    assert read_picture(content, reading=Reading(max_pixels=100)).pages == 4
    with pytest.raises(DataError, match="50×40 = 2,000 pixels is over the limit of 100"):
        read_image(content, max_pixels=100, page=2)
    assert read_image(content, page=2).shape == (40, 50, 3)
    with pytest.raises(DataError, match="float pixels from 1 to 1 do not state a range"):
        read_image(content, page=3)
    assert read_image(content, page=3, range=(0, 1)).shape == (5, 6, 3)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match="need the extra 'tiff'"):
        read_image(content, page=3)
    assert read_image(content, page=4).shape == (5, 6, 3)


def test_a_list_of_pages_that_is_a_loop_or_cut_off_ends() -> None:
    small = np.zeros((5, 6), dtype=np.uint8)
    whole = tiff([grey_page(small, 8, 1)] * 3)
    assert read_picture(whole[: len(whole) - 60]).pages in (2, 3)
    assert read_picture(whole[: len(whole) - 200]).pages == 2
    first = 8 + 2 + 12 * int.from_bytes(whole[8:10], "little")
    loop = whole[:first] + (8).to_bytes(4, "little") + whole[first + 4 :]
    assert read_picture(loop).pages == 1


def test_endings_of_the_newer_formats_are_pictures() -> None:
    assert {".avif", ".heic", ".heif", ".mpo", ".apng", ".jfif"} <= SUFFIXES


def test_pillows_own_limit_does_not_refuse_a_tiff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow checks a TIFF once more as it loads it, and would call a large one damaged."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded("TIFF", compression="tiff_lzw")
    assert np.array_equal(read_image(content), SMOOTH)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(DataError, match="over the limit of 767"):
        read_image(content, max_pixels=767)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_lift_pillows_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    first, second = without_limit(), without_limit()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_an_animated_webp_counts_the_canvases_that_its_decoder_keeps() -> None:
    """A file of a few kilobytes states a canvas of any size."""
    content = encoded("WEBP", pages=2, lossless=True)
    assert read_image(content, max_pixels=24 * 32 * 4).shape == (24, 32, 3)
    with pytest.raises(DataError, match="of 12 bytes take 9,216 bytes"):
        read_image(content, max_pixels=24 * 32 * 4 - 1)
    assert read_image(encoded("WEBP", lossless=True), max_pixels=24 * 32).shape == (24, 32, 3)
