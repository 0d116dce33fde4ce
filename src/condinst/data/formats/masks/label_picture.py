"""Pictures with numbers as pixels: masks of one object, and label images with a number per object."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from condinst.data.findings import RecordError
from condinst.data.pictures.picture_file import count_pictures, opened
from condinst.data.pictures.pillow_limit import load_pixels
from condinst.data.pictures.tiff import TiffArray
from condinst.errors import DataError, first_line

SUFFIXES = frozenset({".bmp", ".gif", ".pgm", ".png", ".tif", ".tiff"})  # formats that keep every pixel's value
SAMPLE_FORMAT = 339  # tag of TIFF: 1 for numbers without a sign
WIDEST = 8  # bytes of a pixel: four colours of 16 bits
AGAIN = "save it again as PNG or TIFF"


class Piece(NamedTuple):
    """The pixels of one number: `mask` (h, w) bool, tight, with the top left pixel (x, y)."""

    number: int
    mask: NDArray[np.bool_]
    x: int
    y: int


def read_numbers(source: Path | bytes, name: str, max_pixels: int, colours: bool = False) -> NDArray[np.int64]:
    """Return (H, W) pixel values as the file holds them, palette indices for a palette; nothing is scaled.

    colours: read a colour picture as the numbers red · 65536 + green · 256 + blue. Without `colours`, a colour picture
    raises RecordError. Negative or fractional values, stacks of pictures and damaged files also raise RecordError.
    """
    try:
        with opened(source, name, max_pixels, bytes_each=WIDEST) as image:
            frames = count_pictures(image)
            if frames > 1:
                raise RecordError(
                    "bad-labels", f"{name}: holds {frames} pictures", "save a file with the intended picture only"
                )
            return _numbers(image, name, colours)
    except DataError as error:
        raise RecordError("unreadable-labels", str(error), AGAIN) from None
    except (RecordError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise errors of every kind on damaged files
        raise RecordError("unreadable-labels", f"{name}: damaged image ({first_line(error)})", AGAIN) from None


def _numbers(image: Image.Image, name: str, colours: bool) -> NDArray[np.int64]:
    if isinstance(image, TiffArray):
        return _of_tiff(image.read().values, name)
    load_pixels(image)
    pixels = np.asarray(image)
    if image.mode in {"LA", "RGBA"}:
        pixels = _without_transparent(pixels)
    if pixels.ndim == 3:
        pixels = pixels[..., : 1 if image.mode in {"LA", "PA"} else 3].astype(np.int64)
        if not colours and (pixels != pixels[..., :1]).any():
            remedy = "save a grey picture with a number for each object"
            raise RecordError("colour-labels", f"{name}: colours ({image.mode}) are no numbers of objects", remedy)
        colour = colours and pixels.shape[2] == 3
        return pixels @ np.array([65536, 256, 1]) if colour else pixels[..., 0]
    if image.mode == "I" and _is_unsigned(image):
        pixels = pixels.view(np.uint32)
    return _whole(pixels, name)


def _of_tiff(pixels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return the numbers of a TIFF that tifffile read, such as labels of 64 bits."""
    if pixels.ndim == 3:
        raise RecordError("colour-labels", f"{name}: colours are no numbers of objects", "save a grey picture")
    return _whole(pixels, name)


def _whole(pixels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return (H, W) pixels as whole numbers from 0. Raises RecordError for others."""
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels).all() and (pixels == np.floor(pixels)).all()):
        raise RecordError("bad-labels", f"{name}: holds fractions, not numbers of objects", "save whole numbers")
    numbers: NDArray[np.int64] = pixels.astype(np.int64)
    if numbers.min() < 0:
        raise RecordError(
            "bad-labels", f"{name}: holds negative numbers", "number the objects from 1, the background 0"
        )
    return numbers


def _without_transparent(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Set transparent pixels of (H, W, C), with alpha as the last channel, to 0.

    If all colours are black, the alpha alone is the mask and is returned.
    """
    alpha = pixels[..., -1:]
    if (alpha == 255).all():
        return pixels
    drawn = pixels if pixels[..., :-1].any() else np.broadcast_to(alpha, pixels.shape)
    return np.where(alpha > 0, drawn, 0).astype(np.uint8)


def _is_unsigned(image: Image.Image) -> bool:
    """Return whether the 32-bit pixels of the file have no sign; Pillow reads them as signed."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(SAMPLE_FORMAT, (1,))[0] == 1


def cut_pieces(numbers: NDArray[np.int64]) -> list[Piece]:
    """Return the pixels of each number except 0 in (H, W), in the order of the numbers. Only their boxes are drawn."""
    width = numbers.shape[1]
    flat = numbers.ravel()
    places = np.flatnonzero(flat)
    if not len(places):
        return []
    places = places[np.argsort(flat[places], kind="stable")]
    values, starts = np.unique(flat[places], return_index=True)
    parts = zip(values, np.split(places, starts[1:]), strict=True)
    return [_piece(int(value), pixels, width) for value, pixels in parts]


def _piece(number: int, pixels: NDArray[np.int64], width: int) -> Piece:
    """Make a piece from the indices of its pixels in the flattened picture."""
    rows, columns = np.divmod(pixels, width)
    top, left = int(rows[0]), int(columns.min())  # pixels come row by row
    mask = np.zeros((int(rows[-1]) - top + 1, int(columns.max()) - left + 1), dtype=np.bool_)
    mask[rows - top, columns - left] = True
    return Piece(number, mask, left, top)
