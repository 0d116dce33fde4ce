"""A picture file → (H, W, 3) uint8 RGB, every pixel format converted by a stated rule.

8-bit grey: three equal channels. 16-bit grey: linear, 0…65535 → 0…255, never stretched to the picture's own range, so
that equal intensities stay equal between pictures. 16-bit colour: Pillow keeps the upper byte. Palette: looked up.
Transparency: composed over black. CMYK, YCbCr and HSV: Pillow's formulas, no colour profiles. Float grey: refused, it
has no defined range. Of an animation or a stack the first picture is taken; of a labelme file the
picture inside it.
"""

from __future__ import annotations

import glob
import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from condinst.data.embedded import embedded_picture, may_embed
from condinst.data.sample import Array8
from condinst.errors import DataError, first_line

MAX_PIXELS = 200_000_000
SUFFIXES = frozenset({".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# not all that Pillow knows: opening EPS, for one, would run a program
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # its value → what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})  # those that swap width and height
_open_lock = threading.Lock()


def read_image(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Array8:
    """Decode a file or its bytes to (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    `name` is what errors call the picture, by default its path. Raises DataError if it is missing, empty, not an image,
    damaged, of an undefined pixel format, or if its header, read before decoding, announces more than `max_pixels`.
    """
    name = name or _name(source)
    with opened(source, name, max_pixels) as image:
        return convert_image(image, name, max_pixels)


def convert_image(image: Image.Image, name: str = "PIL image", max_pixels: int = MAX_PIXELS) -> Array8:
    """A Pillow image, loaded or not, to (H, W, 3) uint8 RGB by the rules of `read_image`, its errors included."""
    _check_size(image, name, max_pixels)
    try:
        image.load()
        return _to_rgb(_turn_upright(image))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # Pillow's decoders raise errors of every kind on damaged files
        raise DataError(f"{name}: damaged image ({first_line(error)}); replace or remove the file") from None


def read_size(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) after EXIF orientation, by the header alone. Raises DataError as `read_image`; damage passes."""
    with opened(source, name or _name(source), max_pixels) as image:
        width, height = image.size
        # Pillow gives the upright size of a TIFF, but not of the other formats
        sideways = not isinstance(image, TiffImagePlugin.TiffImageFile) and _orientation(image) in SIDEWAYS
    return (width, height) if sideways else (height, width)


def read_orientation(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> int:
    """The EXIF orientation, 1 (upright) to 8, by the header alone. Raises DataError as `read_size`."""
    with opened(source, name or _name(source), max_pixels) as image:
        orientation = _orientation(image)
    return orientation if orientation in _UPRIGHT else 1


def list_images(sources: list[str]) -> list[Path]:
    """Files, folders (their own pictures by name, not their folders') and glob patterns → paths, each once.

    A file named itself is taken whatever its suffix. Raises DataError for a missing file and for a folder or pattern
    without pictures.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        paths.update(dict.fromkeys(_list_one(source)))
    return list(paths)


def _list_one(source: str) -> list[Path]:
    path = Path(source)
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            found, kind = list(path.iterdir()), "folder"
        elif glob.has_magic(source):
            found, kind = [Path(match) for match in glob.glob(source, recursive=True)], "pattern"
        else:
            raise DataError(f"{source}: no such file or folder")
        pictures = sorted(match for match in found if match.suffix.lower() in SUFFIXES and match.is_file())
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read ({first_line(error)})") from None
    if not pictures:
        raise DataError(f"{source}: the {kind} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return pictures


@contextmanager
def opened(source: Path | bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """The picture with its header read and its size allowed, nothing decoded."""
    with ExitStack() as stack:
        try:
            if isinstance(source, Path) and not source.is_file():
                raise DataError(f"{name}: no such file")
            if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
                raise DataError(f"{name}: the file is empty")
            if isinstance(source, Path) and may_embed(source):
                source = embedded_picture(source, max_pixels)
            image = stack.enter_context(_open_unlimited(source))
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(f"{name}: not an image in one of the formats {', '.join(FORMATS)}") from None
        except Exception as error:  # as in read_image: headers can be damaged, too
            raise DataError(f"{name}: cannot be read as an image ({first_line(error)})") from None
        _check_size(image, name, max_pixels)
        yield image


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if not width * height:
        raise DataError(f"{name}: {width}×{height} pixels, there is nothing to see")
    if width * height > max_pixels:
        raise DataError(
            f"{name}: {width}×{height} = {width * height:,} pixels is over the limit of {max_pixels:,}; "
            "scale the picture down, cut it into tiles or raise max_pixels (--max-pixels)"
        )


def _open_unlimited(source: Path | bytes) -> Image.Image:
    """Image.open without Pillow's own, process-wide pixel limit: ours is per call, adjustable and names the size."""
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block carries no orientation; the picture may be whole
        return None
    return value if isinstance(value, int) else None


def _turn_upright(image: Image.Image) -> Image.Image:
    step = _UPRIGHT.get(_orientation(image) or 1)  # a TIFF, turned by Pillow while loading, has lost its tag by now
    return image if step is None else image.transpose(step)


def _to_rgb(image: Image.Image) -> Array8:
    if image.mode == "F":
        raise DataError("32-bit float pixels have no defined range; save the picture as 8-bit or 16-bit")
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if image.mode == "LAB":  # Pillow converts it by a colour profile only
        raise DataError("mode LAB has no stated colours; convert the picture to RGB")
    return np.array(image.convert("RGB"))


def _from_16_bit(grey: NDArray[np.int32 | np.uint16]) -> Array8:
    """(H, W) integers 0…65535 → (H, W, 3), rounded to the nearest; 65535 / 255 = 257."""
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise DataError(f"pixels from {low} to {high} do not fit 16 bits; save the picture as 8-bit or 16-bit")
    eight = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "image bytes"
