"""A picture file → (H, W, 3) uint8 RGB, every pixel format converted by a stated rule.

8-bit grey: three equal channels. 16-bit grey: linear, 0…65535 → 0…255, never stretched to the picture's own range, so that
equal intensities stay equal between pictures. 16-bit colour: Pillow keeps the upper byte. Palette: looked up. Transparency:
composed over black. CMYK, YCbCr and HSV: Pillow's formulas, no colour profiles. Float grey: refused, it has no defined range.
Of an animation or a stack the first picture is taken.
"""

from __future__ import annotations

import glob
import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from condinst.data.sample import Array8
from condinst.errors import DataError

MAX_PIXELS = 200_000_000
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})

_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = range(5, 9)  # its values that swap width and height
_open_lock = threading.Lock()


def read_image(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Array8:
    """Decode a file or its bytes to (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    `name` is what errors call the picture, by default its path. Raises DataError if it is missing, empty, not an image,
    damaged, of an undefined pixel format, or if its header announces more than `max_pixels`, which is checked before decoding.
    """
    name = name or _name(source)
    with _opened(source, name, max_pixels) as image:
        if image.mode == "F":
            raise DataError(f"{name}: 32-bit float pixels have no defined range; save the picture as 8-bit or 16-bit")
        try:
            upright = ImageOps.exif_transpose(image)
            array = _to_rgb(upright)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        except Exception as error:  # Pillow's decoders raise errors of every kind on damaged files
            raise DataError(f"{name}: damaged image ({_line(error)}); replace or remove the file") from None
    return array


def read_size(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header alone. Raises DataError as `read_image`, short of damage."""
    with _opened(source, name or _name(source), max_pixels) as image:
        width, height = image.size
        try:
            sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        except Exception:  # a broken EXIF block carries no orientation
            sideways = False
    return (width, height) if sideways else (height, width)


def list_images(sources: list[str]) -> list[Path]:
    """Files, folders (their pictures by name, not those of folders inside) and glob patterns → paths, each once.

    A file named itself is taken whatever its suffix. Raises DataError for a missing file or a folder or pattern without pictures.
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
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read ({_line(error)})") from None
    pictures = sorted(match for match in found if match.suffix.lower() in SUFFIXES and match.is_file())
    if not pictures:
        raise DataError(f"{source}: the {kind} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return pictures


@contextmanager
def _opened(source: Path | bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """The picture with its header read and its size allowed, nothing decoded."""
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"{name}: no such file")
    if (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0:
        raise DataError(f"{name}: the file is empty")
    with ExitStack() as stack:
        try:
            image = stack.enter_context(_open_unlimited(source))
        except UnidentifiedImageError:
            raise DataError(f"{name}: not an image, or of a format Pillow cannot read") from None
        except Exception as error:
            raise DataError(f"{name}: cannot be read as an image ({_line(error)})") from None
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(
                f"{name}: {width}×{height} = {width * height:,} pixels is over the limit of {max_pixels:,}; "
                "scale the picture down, cut it into tiles or raise max_pixels"
            )
        yield image


def _open_unlimited(source: Path | bytes) -> Image.Image:
    """Image.open without Pillow's own, process-wide pixel limit: ours is per call, adjustable and names the size."""
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Array8:
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, layer)
    return np.array(image.convert("RGB"))


def _from_16_bit(grey: np.ndarray) -> Array8:
    """(H, W) integers 0…65535 → (H, W, 3); 65535 / 255 = 257."""
    if grey.min() < 0 or grey.max() > 65535:
        raise DataError(f"pixels from {grey.min()} to {grey.max()} do not fit 16 bits; save the picture as 8-bit or 16-bit")
    eight = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "image bytes"


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
