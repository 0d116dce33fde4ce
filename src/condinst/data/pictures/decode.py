"""Decodes a Pillow image with a header already read → (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from condinst.data.pictures.picture_file import raw_mode
from condinst.data.pictures.pillow_limit import load_pixels
from condinst.data.pictures.tiff import TiffArray
from condinst.data.pictures.values import (
    STRIP,
    Remark,
    Shown,
    Values,
    dark_colour,
    grey_values,
    is_inverted,
    is_wide,
    largest_value,
    planar,
    show_values,
)
from condinst.data.sample import Array8
from condinst.errors import DataError, first_line
from condinst.settings.kinds import FULL, Range

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # EXIF orientation → the Pillow operation that turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TELLING = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks of PNG that may hold EXIF or XMP
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap width and height
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
# Kinds of 16-bit colour. Pillow keeps one byte of each value. A caller can choose the byte only for these kinds.
_WIDE_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16", "R;16")
_WIDE_OTHERS = ("LA;16", "RGBa;16")


def decode(image: Image.Image, name: str, range: Range = FULL, twin: Image.Image | None = None) -> Shown:
    """Decode the current page of the file; see `condinst.data.pictures.image` for the rules.

    twin: the same file, opened a second time at the same page, for 16-bit colours with a range (see `needs_twin`).
    Raises DataError for damaged files and for pixels that do not fit the range.
    """
    try:
        return _decode(image, range, twin)
    except DataError as error:
        raise type(error)(f"{name}: {error}") from None
    except Exception as error:  # Pillow's decoders raise errors of every kind on damaged files
        raise DataError(f"{name}: damaged image ({first_line(error)}); replace or remove the file") from None


def needs_twin(image: Image.Image, range: Range) -> bool:
    """Return whether the file must be opened twice: Pillow reads only one byte of a 16-bit colour value at a time."""
    return range != FULL and raw_mode(image).startswith(_WIDE_COLOURS)


def needs_tifffile(image: Image.Image, range: Range) -> bool:
    """Return whether Pillow gives only the upper bytes of the colours: libtiff reads compressed planes for it."""
    return needs_twin(image, range) and raw_mode(image).endswith("N") and planar(image)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    try:
        if isinstance(image, PngImageFile) and image.tile and "exif" not in image.info and not _told_later(image):
            value = Image.Image.getexif(image).get(_ORIENTATION)  # the one of PNG decodes all pixels first
        else:
            value = image.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block holds no orientation, but the picture may be intact
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _told_later(image: PngImageFile) -> bool:
    """Return whether a PNG has chunks behind its pixels that may hold an orientation."""
    file = image.fp
    if file is None:
        return False
    place = file.tell()
    try:
        file.seek(len(_PNG_START))
        seen_pixels = False
        while len(head := file.read(8)) == 8:
            name = head[4:]
            if seen_pixels and name in _TELLING:
                return True
            seen_pixels |= name == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return False
    finally:
        file.seek(place)


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn a loaded image by its EXIF orientation. Nothing else changes."""
    step = _UPRIGHT.get(orientation_of(image))  # Pillow turned a TIFF while loading it, and removed the tag
    return image if step is None else image.transpose(step)


def _decode(image: Image.Image, range: Range, twin: Image.Image | None) -> Shown:
    if isinstance(image, TiffArray):
        return _decode_tiff(image, range)
    raw = raw_mode(image)
    if range != FULL and raw.startswith("CMYK;16"):
        raise DataError("16-bit CMYK takes no range; save the picture as RGB")
    wide, inverted, largest = is_wide(image), is_inverted(image), largest_value(image)
    if range != FULL and raw.startswith(_WIDE_OTHERS):
        raise DataError(f"16-bit pixels with alpha ({raw}) take no range; save the picture without transparency")
    load_pixels(image)
    if wide:
        shown = show_values(upright_values(image), range, largest)
        return Shown(255 - shown.pixels, shown.remarks) if inverted else shown
    if twin is not None:
        return _wide_colours(image, twin, range)
    image = turn_upright(image)
    pixels = _to_rgb(image)
    remarks: list[Remark] = dark_colour(pixels) if raw.startswith(_WIDE_COLOURS) else []
    return Shown(pixels, tuple(remarks))


def upright_values(image: Image.Image) -> Values:
    """Return the (H, W) values of a loaded wide grey picture, turned by its EXIF orientation."""
    return _turned(grey_values(image), orientation_of(image))


def _turned(values: Values, step: int) -> Values:
    """Turn (H, W) or (H, W, C) by an EXIF orientation."""
    if step in SIDEWAYS:
        values = np.swapaxes(values, 0, 1)
    return {
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values,
        6: values[:, ::-1],
        7: values[::-1, ::-1],
        8: values[::-1],
    }.get(step, values)


def _decode_tiff(image: TiffArray, range: Range) -> Shown:
    """Decode a TIFF that tifffile reads. Transparency is composed over black, as in other pictures."""
    values, alpha, largest = image.read()
    step = orientation_of(image)
    shown = show_values(_turned(values, step), range, largest)
    pixels = 255 - shown.pixels if image.white_is_zero else shown.pixels
    if alpha is not None:
        most = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
        opaque = _turned(alpha, step)[..., None].astype(np.float32) / most
        pixels = np.rint(pixels * opaque.clip(0, 1)).astype(np.uint8)
    return Shown(np.ascontiguousarray(pixels), shown.remarks)


def _to_rgb(image: Image.Image) -> Array8:
    """Return (H, W, 3) of a loaded 8-bit image of any mode, converted strip by strip."""
    if image.mode == "LAB":  # Pillow converts this mode only with a colour profile
        raise DataError("condinst does not read colours of mode LAB; convert the picture to RGB")
    if image.mode == "RGB" and not image.has_transparency_data:
        return np.array(image)
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(STRIP // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_without_alpha(image.crop((0, top, width, bottom))).convert("RGB"))
    return pixels


def _without_alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow needs two steps from La
    return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)


def _wide_colours(image: Image.Image, twin: Image.Image, range: Range) -> Shown:
    """Join the upper bytes of a loaded image with the lower bytes of its twin."""
    assert isinstance(twin, ImageFile.ImageFile)  # it was opened
    twin.tile = [tile._replace(args=_other_byte(tile.args)) for tile in twin.tile]
    load_pixels(twin)
    upper, lower = np.asarray(turn_upright(image)), np.asarray(turn_upright(twin))
    values = upper[..., :3].astype(np.uint16) << 8 | lower[..., :3]
    shown = show_values(values, range)
    if upper.shape[2] == 3:
        return shown
    layer = Image.fromarray(np.concatenate((shown.pixels, upper[..., 3:]), axis=2))
    return Shown(_to_rgb(layer), shown.remarks)


def _other_byte(args: tuple[object, ...] | str | None) -> tuple[object, ...] | str:
    if args is None or isinstance(args, str):
        args = args or ""
        return args[:-3] + _OTHER_BYTE[args[-3:]]
    raw, *rest = args
    return str(raw)[:-3] + _OTHER_BYTE[str(raw)[-3:]], *rest
