"""Opens a picture file by its content: reads the header, selects the page, checks the size, decodes nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from condinst.data.pictures.embedded import embedded_picture, may_embed
from condinst.data.pictures.pillow_limit import without_limit
from condinst.data.pictures.tiff import TiffArray, open_tiff
from condinst.errors import DataError, NoPictureError, TooLargeError, first_line
from condinst.foreign import BYTES_READ, missing_content

# The formats are listed: Pillow would run a program to open EPS, for example.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # the pages of these formats are frames of a film
MAX_PAGES = 10_000
WEBP_FRAME_BYTES = 12  # a pixel of an animation: libwebp keeps two canvases with alpha, and Pillow copies one
COLOUR_BYTES = 3  # bytes of one pixel of an 8-bit colour picture, the unit of `max_pixels`

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SAMPLE_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "I;16": 2, "I": 4, "F": 4, "RGBA": 4, "CMYK": 4, "RGBX": 4}
_BITS_PER_SAMPLE, _DESCRIPTION = 258, 270  # tags of TIFF
_LONGEST_DESCRIPTION = 100_000  # characters looked at
_SUBFILE = (254, 255)  # tags of TIFF: the kind of a page, and its older form
_NO_PICTURE, _OLDER_REDUCED = 1 | 4, 2  # a smaller copy of another page or a transparency mask; a smaller copy
_NATIVE = {"F;32F": "F;32NF", "F;32BF": "F;32NF", "I;32S": "I;32NS", "I;32BS": "I;32NS", "I;16S": "I;16NS"} | {
    "I;16BS": "I;16NS", "I;32": "I;32N", "I;32B": "I;32N"
}  # Pillow's names of pixel layouts → the same in the machine's order of bytes  # fmt: skip


@contextmanager
def opened(
    source: Path | bytes,
    name: str,
    max_pixels: int,
    page: int = 1,
    bytes_each: int = COLOUR_BYTES,
    all_bits: bool = False,
) -> Iterator[Image.Image]:
    """Open the picture at `page`, counted from 1, and check its size. Nothing is decoded.

    all_bits: open a TIFF with tifffile even if Pillow can read the upper bits of its pixels.
    Raises DataError for a missing, empty or unreadable file and for a page that the file does not have, NoPictureError
    for a file in another format, and TooLargeError for a size above the limit (see `check_size`).
    """
    with ExitStack() as stack:
        try:
            if isinstance(source, Path) and not source.is_file():
                raise DataError(f"{name}: no such file")
            if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
                raise DataError(f"{name}: the file is empty")
            if isinstance(source, Path) and may_embed(source):
                source = embedded_picture(source, max_pixels)
            opener = _open_other_tiff if all_bits else _open
            image = stack.enter_context(opener(source, name))
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                image.filename = ""  # Pillow would map the file into memory and mix up the rows of turned pictures
        except DataError:
            raise
        except UnidentifiedImageError:
            raise NoPictureError(f"{name}: {missing_content(_start(source)) or _why_unknown()}") from None
        except Exception as error:  # Pillow raises errors of every kind on damaged headers
            raise DataError(f"{name}: cannot be read as an image ({first_line(error)})") from None
        if page != 1:
            try:
                turn_to(image, page, name)
            except _UnknownPixelsError:
                image = stack.enter_context(_open_other_tiff(source, name))
                turn_to(image, page, name)
        _mend_pixels(image)
        check_size(image, name, max_pixels, bytes_each)
        yield image


class _UnknownPixelsError(DataError):
    """Pillow does not know the pixels of a page of a TIFF."""


def turn_to(image: Image.Image, page: int, name: str) -> None:
    """Turn an open file to `page`, counted from 1. Raises DataError if the file has no such page."""
    try:
        image.seek(page - 1)
        _mend_pixels(image)
    except EOFError:
        raise DataError(f"{name}: has no page {page}; its last page is {count_pages(image)}") from None
    except DataError as error:
        raise DataError(f"{name}: page {page}: {error}") from None
    except SyntaxError as error:  # a page of a TIFF with pixels that Pillow does not know
        raise _UnknownPixelsError(f"{name}: page {page} cannot be read ({first_line(error)})") from None
    except Exception as error:  # Pillow raises errors of every kind on damaged headers
        raise DataError(f"{name}: page {page} is damaged ({first_line(error)})") from None


def count_pages(image: Image.Image) -> int:
    """Return the number of pages of an open file, at most MAX_PAGES + 1.

    Counting stops at the first damaged header.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        try:
            return min(int(getattr(image, "n_frames", 1)), MAX_PAGES + 1)
        except Exception:  # damage after the first frame
            return 1
    page, found = image.tell(), 0  # `n_frames` has no limit, and a small file can list millions of pages
    while found <= MAX_PAGES:
        try:
            image.seek(found)
        except SyntaxError:  # Pillow does not know the pixels, but the page counts
            pass
        except Exception:  # the end of the file, or damage
            break
        found += 1
    image.seek(min(page, max(found - 1, 0)))
    _mend_pixels(image)
    return max(found, 1)


def count_pictures(image: Image.Image) -> int:
    """Return the number of pages as `count_pages` does, without smaller copies of a page and without masks.

    If the first page is such a copy, all pages count, because the first is read.
    """
    count = count_pages(image)
    if count == 1 or count > MAX_PAGES or not isinstance(image, TiffImagePlugin.TiffImageFile | TiffArray):
        return count
    page = image.tell()
    copies = [number for number in range(count) if is_copy(image, number + 1)]
    turn_to(image, page + 1, "")
    return count if 0 in copies else count - len(copies)


def is_copy(image: Image.Image, page: int) -> bool:
    """Return whether a page of a TIFF is a smaller copy of another page, such as a thumbnail, or a mask."""
    try:
        turn_to(image, page, "")
    except DataError:  # the reader of the page reports the error
        return False
    kind, older = (image.tag(number) if isinstance(image, TiffArray) else _tag(image, number) for number in _SUBFILE)
    return (isinstance(kind, int) and bool(kind & _NO_PICTURE)) or older == _OLDER_REDUCED


def _tag(image: Image.Image, number: int) -> object:
    return image.tag_v2.get(number) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def channels_of(image: Image.Image) -> str:
    """Describe the pages of an OME-TIFF, such as "3 channels and 5 slices"; empty for other files."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return ""
    said = str(image.tag_v2.get(_DESCRIPTION, ""))[:_LONGEST_DESCRIPTION]
    sizes = {axis: int(size) for axis, size in re.findall(r'Size([CZT])="([0-9]{1,6})"', said)} if "OME" in said else {}
    words = {"C": "channels", "Z": "slices", "T": "times"}
    return " and ".join(f"{sizes[axis]} {word}" for axis, word in words.items() if sizes.get(axis, 1) > 1)


def check_size(image: Image.Image, name: str, max_pixels: int, bytes_each: int = COLOUR_BYTES) -> None:
    """Raise DataError if the header announces no pixels, and TooLargeError if it announces too many pixels or bytes.

    The limits are `max_pixels` pixels, and the bytes of `max_pixels` pixels with `bytes_each` bytes. 16-bit, float and
    CMYK pixels take more bytes than 8-bit colour.
    """
    width, height = image.size
    if not (isinstance(width, int) and isinstance(height, int)):  # Pillow gives a tuple for a damaged tag of a TIFF
        raise DataError(f"{name}: cannot be read as an image (its header has no single width and height)")
    if not width * height:
        raise DataError(f"{name}: {width}×{height} pixels, so the picture is empty")
    remedy = "scale the picture down, cut it into tiles or raise max_pixels (--max-pixels)"
    if width * height > max_pixels:
        message = f"{width}×{height} = {width * height:,} pixels is over the limit of {max_pixels:,}"
        raise TooLargeError(f"{name}: {message}; {remedy}")
    size, limit = pixel_bytes(image), bytes_each * max_pixels
    if width * height * size > limit:
        message = (
            f"{width}×{height} pixels of {size} bytes take {width * height * size:,} bytes, over the limit of {limit:,}"
        )
        raise TooLargeError(f"{name}: {message} ({max_pixels:,} pixels of {bytes_each} bytes); {remedy}")


def pixel_bytes(image: Image.Image) -> int:
    """Return the bytes that a decoded pixel takes, from the header."""
    if isinstance(image, TiffArray):
        return image.bytes_each
    if image.format == "WEBP" and getattr(image, "is_animated", False):
        return WEBP_FRAME_BYTES
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    size = _SAMPLE_BYTES.get(mode, COLOUR_BYTES)
    return 2 * len(image.getbands()) if ";16" in raw_mode(image) and image.mode != "I" else size


def raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the pixel layout in the file, such as "RGB;16B"; empty if Pillow gives none."""
    for tile in getattr(image, "tile", ()):
        args = tile[3]
        first = args[0] if isinstance(args, tuple) and args else args
        if isinstance(first, str):
            return first
    return ""


def _mend_pixels(image: Image.Image) -> None:
    """Correct what Pillow takes the pixels of a TIFF for.

    16-bit colours in separate planes are read as 8-bit if they are uncompressed. Compressed 32-bit pixels are taken in
    the file's order of bytes, though libtiff has put them into the machine's order.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    if (native := _NATIVE.get(raw_mode(image))) and all(tile.codec_name == "libtiff" for tile in image.tile):
        image.tile = [
            tile._replace(args=(native, *tile.args[1:])) if isinstance(tile.args, tuple) else tile
            for tile in image.tile
        ]
    if raw_mode(image) not in ("R", "C"):
        return
    if image.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0] == 16:
        order = "16L" if image.tag_v2.prefix == b"II" else "16B"
        tiles = [(tile, tile.args) for tile in image.tile]
        image.tile = [
            tile._replace(args=(f"{args[0]};{order}", *args[1:])) for tile, args in tiles if isinstance(args, tuple)
        ]


def _open(source: Path | bytes, name: str) -> Image.Image:
    """Open a file with Pillow, without Pillow's limit on pixels (see `without_limit`)."""
    content: BinaryIO | Path = io.BytesIO(source) if isinstance(source, bytes) else source
    with without_limit():
        try:
            return Image.open(content, formats=FORMATS)
        except UnidentifiedImageError:
            start = _start(source)
            if _is_heif(start):
                return _open_heif(source, name)
            if start.startswith(_TIFF_STARTS):
                return _open_other_tiff(source, name)
            raise


def _open_other_tiff(source: Path | bytes, name: str) -> Image.Image:
    """Open a TIFF with pixels that Pillow does not know."""
    try:
        return open_tiff(source)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # tifffile raises errors of every kind on damaged files
        raise DataError(f"{name}: a damaged TIFF ({first_line(error)}); replace or remove the file") from None


def _open_heif(source: Path | bytes, name: str) -> Image.Image:
    """Open a file with pillow-heif.

    condinst does not register pillow-heif with Pillow, so other code in this process sees no change.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise DataError(
            f"{name}: HEIC pictures need the extra 'heif' (pip install 'condinst[heif]'); "
            "install it or save the picture as JPEG or PNG"
        ) from None
    content = source if isinstance(source, bytes) else source.read_bytes()
    image: Image.Image = HeifImageFile(io.BytesIO(content))  # type: ignore[no-untyped-call]
    return image


def _start(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:BYTES_READ]
    with source.open("rb") as file:
        return file.read(BYTES_READ)


def is_tiff(path: Path) -> bool:
    """Return whether a file begins like a TIFF; False if the file cannot be read."""
    try:
        return _start(path).startswith(_TIFF_STARTS)
    except OSError:
        return False


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _why_unknown() -> str:
    return f"not an image in one of the formats {', '.join((*FORMATS, 'HEIF'))}"
