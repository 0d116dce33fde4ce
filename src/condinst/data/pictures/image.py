"""Reads a picture file → (H, W, 3) uint8 RGB. Each pixel format has a fixed rule.

8-bit grey: three equal channels. 16-bit grey: linear, 0…65535 → 0…255, unless a range is given. Only the range "auto"
stretches a picture to its own values; with any other range, equal intensities stay equal between pictures. 16-bit
colour: the same; without a range, the upper byte. Float: needs a range. 12-bit TIFF: 0…4095. Palette: looked up.
Transparency: composed over black. CMYK, YCbCr and HSV: Pillow's formulas, no colour profiles.

From a file of several pages, condinst reads the first page unless the caller names another page. From a labelme file,
condinst reads the picture inside.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

from condinst.data.pictures.decode import SIDEWAYS, decode, needs_tifffile, needs_twin, orientation_of
from condinst.data.pictures.listing import entries, is_system, list_tree
from condinst.data.pictures.picture_file import ANIMATED, MAX_PAGES, channels_of, check_size, count_pictures, opened
from condinst.data.pictures.values import Remark
from condinst.data.sample import Array8
from condinst.errors import DataError, first_line
from condinst.settings.kinds import FULL, Range, check_range

MAX_PIXELS = 200_000_000
SAVE = "save the content as a file and give its path to read the others"  # from an address, a pipe or bytes
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg"}
    | {".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


class Page(NamedTuple):
    """One page of a TIFF stack, an animation or a file of several pictures, counted from 1."""

    path: Path
    number: int


class Reading(NamedTuple):
    """The options for reading a picture file.

    page: counted from 1; None reads the first page and counts the others. range: see `InputConfig`.
    max_pixels: see `read_image`.
    """

    page: int | None = None
    range: Range = FULL
    max_pixels: int = MAX_PIXELS


FIRST_PAGE = Reading()


class Decoded(NamedTuple):
    """A picture and facts about its file.

    remarks: notes about the picture for the user. pages: number of pages in the file, if they were counted.
    orientation: the EXIF orientation that the pixels were turned by; 1 if they were upright.
    """

    pixels: Array8
    remarks: tuple[Remark, ...] = ()
    pages: int = 1
    orientation: int = 1


def read_image(
    source: str | Path | bytes,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    *,
    page: int = 1,
    range: Range | str = FULL,
) -> Array8:
    """Decode a file or its bytes to (H, W, 3) uint8 RGB, upright by its EXIF orientation.

        read_image("stack.tif", page=3, range=(0, 4095))

    name: what errors call the picture, by default its path. page: of a TIFF stack or an animation, counted from 1.
    range: which values become black and white in a picture of more than 8 bits: "full" (0 to 65535), "auto" (from the
    0.1th to the 99.9th percentile of this picture) or (low, high). 8-bit pictures are read as they are.

    Raises DataError if the file is missing, empty, not an image, damaged, without such a page, of float pixels with
    range "full", or if its header, read before decoding, announces more than `max_pixels` (see `check_size`).
    """
    source = Path(source) if isinstance(source, str) else source
    return read_picture(source, name, Reading(page, check_range(range), max_pixels)).pixels


def read_picture(source: Path | bytes, name: str | None = None, reading: Reading = FIRST_PAGE) -> Decoded:
    """Read a picture as `read_image` does, and return notes for the user as well."""
    name = name or _name(source)
    page, range, max_pixels = reading
    with opened(source, name, max_pixels, 1 if page is None else page) as image:
        pages = count_pictures(image) if page is None else 1
        remarks = (_several_pages(image, pages, isinstance(source, Path)),) if pages > 1 else ()
        # decoding a TIFF removes the orientation; asking a PNG for it decodes the file, which must not happen yet
        orientation = orientation_of(image) if image.format == "TIFF" else None
        if needs_tifffile(image, range):
            with opened(source, name, max_pixels, 1 if page is None else page, all_bits=True) as whole:
                shown = decode(whole, name, range)
        elif not needs_twin(image, range):
            shown = decode(image, name, range)
        else:
            with opened(source, name, max_pixels, 1 if page is None else page) as twin:
                shown = decode(image, name, range, twin)
        orientation = orientation or orientation_of(image)
    return Decoded(shown.pixels, (*remarks, *shown.remarks), pages, orientation)


def _several_pages(image: Image.Image, pages: int, is_file: bool) -> Remark:
    if image.format == "MPO":
        message = f"holds {pages} pictures, such as previews and depth maps of a photo; the first is read"
        remedy = "to read another picture, use --pages or page=" if is_file else SAVE
        return Remark("further-pictures", message, remedy)
    count = f"more than {MAX_PAGES:,}" if pages > MAX_PAGES else str(pages)
    channels = channels_of(image)
    what = f" (OME-TIFF of {channels})" if channels else ""
    message = f"holds {count} {'frames' if image.format in ANIMATED else 'pages'}{what}; the first is read"
    remedy = (
        "name another with page=, in predict with --pages, or save a file with the intended picture only"
        if is_file
        else SAVE
    )
    return Remark("several-pages", message, remedy)


def convert_image(
    image: Image.Image, name: str = "PIL image", max_pixels: int = MAX_PIXELS, range: Range = FULL
) -> Decoded:
    """Decode the current page of a Pillow image, loaded or not, by the rules of `read_image`.

    Raises the same errors as `read_image`. Pillow keeps only the upper byte of 16-bit colours, so a range does not
    apply to them.
    """
    check_size(image, name, max_pixels)
    return Decoded(*decode(image, name, range))


class Header(NamedTuple):
    """height, width: after EXIF orientation. orientation: 1 (upright) to 8."""

    height: int
    width: int
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def may_be_turned(self) -> bool:
        """Return whether the orientation turns the picture but keeps its size, which then shows no turned objects."""
        return self.orientation != 1 and (self.orientation not in SIDEWAYS or self.height == self.width)


def read_header(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Header:
    """Return the size and the orientation. Raises DataError as `read_size` does."""
    with opened(source, name or _name(source), max_pixels) as image:
        width, height = image.size
        orientation = orientation_of(image)
        # Pillow gives the upright size of a TIFF, but not of other formats
        sideways = not isinstance(image, TiffImagePlugin.TiffImageFile) and orientation in SIDEWAYS
    return Header(*((width, height) if sideways else (height, width)), orientation)


def read_size(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (height, width) after EXIF orientation, from the header alone.

    Raises DataError as `read_image` does. Damaged pixels raise no error.
    """
    return read_header(source, name, max_pixels).size


def read_orientation(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> int:
    """Return the EXIF orientation, 1 (upright) to 8, from the header alone. Raises DataError as `read_size` does."""
    return read_header(source, name, max_pixels).orientation


def list_images(sources: list[str], recursive: bool = False) -> list[Path]:
    """Files, folders and glob patterns → paths, each path once.

    A folder gives its own pictures sorted by name; recursive: also the pictures of its sub-folders. A named file is
    used with any suffix. Raises DataError for a missing file, and for a folder or pattern without pictures.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        paths.update(dict.fromkeys(_list_one(source, recursive)))
    return list(paths)


def _list_one(source: str, recursive: bool) -> list[Path]:
    path = Path(source)
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            found, kind = list(list_tree(path).files) if recursive else entries(path), "folder"
        elif glob.has_magic(source):
            found, kind = _matches(source), "pattern"
        elif path.exists():
            raise DataError(f"{source}: a pipe, a socket or a device; save the picture as a file, or send it to -")
        else:
            raise DataError(f"{source}: no such file or folder")
        pictures = sorted(match for match in found if match.suffix.lower() in SUFFIXES and match.is_file())
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read ({first_line(error)})") from None
    if not pictures:
        raise DataError(f"{source}: the {kind} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return pictures


def _matches(pattern: str) -> list[Path]:
    """Return the files of a pattern, each file once even if links lead back to its folder.

    System files are left out unless the pattern names them.
    """
    named = set(Path(pattern).parts)
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)), key=lambda match: (len(match.parts), match))
    wanted = [match for match in matches if not any(is_system(part) for part in {*match.parts} - named)]
    first: dict[Path, Path] = {}
    for match in wanted:
        first.setdefault(match.parent.resolve() / match.name, match)
    return list(first.values())


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "image bytes"
