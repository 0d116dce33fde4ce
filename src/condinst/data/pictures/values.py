"""Pixel values of any kind → (H, W, 3) uint8 RGB, by one range for all pixels of a picture.

8-bit pictures need no range. For pictures of more bits, and for floats, the range states the value that becomes 0
(black) and the value that becomes 255.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from condinst.data.pictures.tiff import TiffArray
from condinst.data.sample import Array8
from condinst.errors import DataError
from condinst.settings.kinds import Range

Values = NDArray[np.integer | np.floating]

STRIP = 4_000_000  # pixels converted at a time, to limit memory
SAMPLES = 4_000_000  # values used for "auto"
AUTO = (0.1, 99.9)  # percentiles of the values that "auto" turns black and white
DARK = 65  # a picture with all values below this (of 256) uses a quarter of its range
OUTLIERS = 0.01  # percent of the values that may be above, such as broken sensor pixels
CLIPPED = 0.01  # share of the pixels outside a stated range from which condinst warns
LARGEST_16 = 65535
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
STATE = "state it with --range LOW,HIGH or --range auto (input.range in a configuration, range= in Python)"


class Remark(NamedTuple):
    """A note for the user about a picture that could be read. kind: of the finding in `data check`."""

    kind: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class NoRangeError(DataError):
    """The values of a picture have no natural range, and the user gave no range."""


class Shown(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB."""

    pixels: Array8
    remarks: tuple[Remark, ...] = ()


def is_wide(image: Image.Image) -> bool:
    """Return whether a grey picture, loaded or not, has signed pixels or pixels of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I") or _is_signed_8(image)


def grey_values(image: Image.Image) -> Values:
    """Return the (H, W) values of a loaded wide grey picture, as its file holds them."""
    if isinstance(image, TiffArray):
        return image.read().values
    values = np.asarray(image)
    if _is_signed_8(image):
        return values.view(np.int8)
    return values.view(np.uint32) if image.mode == "I" and is_unsigned(image) else values


def is_unsigned(image: Image.Image) -> bool:
    """Return whether the 32-bit integers of the file have no sign; Pillow reads them as signed."""
    return _tag(image, SAMPLE_FORMAT) in (None, (1,)) and isinstance(image, TiffImagePlugin.TiffImageFile)


def is_inverted(image: Image.Image) -> bool:
    """Return whether 0 is white in a 16-bit TIFF; Pillow inverts only 8-bit values."""
    return image.mode.startswith("I;16") and _tag(image, PHOTOMETRIC) == 0


def planar(image: Image.Image) -> bool:
    """Return whether a TIFF stores each colour in a separate plane."""
    return bool(_tag(image, PLANAR_CONFIGURATION) == 2)


def largest_value(image: Image.Image) -> int:
    """Return the greatest possible value of a wide grey file: 4095 for a TIFF of 12 bits, else 65535."""
    bits = (_tag(image, BITS_PER_SAMPLE) or (16,))[0]
    if _is_signed_8(image):
        return 127
    return (1 << bits) - 1 if 8 < bits < 16 else LARGEST_16


def _is_signed_8(image: Image.Image) -> bool:
    return image.mode == "L" and _tag(image, SAMPLE_FORMAT) == (2,)


def _tag(image: Image.Image, number: int) -> Any:
    """Return the value of a TIFF tag; None if the tag is missing."""
    return image.tag_v2.get(number) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def show_values(values: Values, range: Range, largest: int = LARGEST_16) -> Shown:
    """Map (H, W) or (H, W, 3) values to 8 bits. Values beyond the range become 0 and 255, NaN becomes 0.

    range: "full" is 0…`largest`, for integers only. "auto" goes from the 0.1th to the 99.9th percentile of the picture.
    Raises NoRangeError if "full" does not fit the values, and DataError if no value is a number.
    """
    lowest, highest, missing = _extremes(values)
    low, high = _chosen(values, range, largest, lowest, highest)
    pixels, counts, outside = _map(values, low, high)
    remarks = []
    if missing:
        message = f"{missing:,} of its {values.size:,} values are NaN or infinite"
        remarks.append(Remark("nan-pixels", message, "NaN is shown black; write a number where nothing was measured"))
    if range not in ("full", "auto") and outside > CLIPPED * values.size:
        share = f"{outside / values.size:.0%} of its values, {lowest:g} to {highest:g},"
        message = f"{share} lie outside the range {low:g} to {high:g}"
        remarks.append(Remark("outside-range", message, "they are shown black or white; state a wider range"))
    if range != "auto" and lowest < highest and _is_dark(counts):
        remarks.append(_dark(counts, (lowest, highest), _bulk(values, highest), (low, high)))
    return Shown(pixels, tuple(remarks))


def choose_range(values: Values, range: Range, largest: int = LARGEST_16) -> tuple[float, float]:
    """Return the values that `show_values` makes black and white. Raises the same errors."""
    lowest, highest, _ = _extremes(values)
    return _chosen(values, range, largest, lowest, highest)


def map_values(values: Values, low: float, high: float) -> Array8:
    """Return (H, W, 3) pixels: `low` and below become 0, `high` and above 255, NaN 0."""
    return _map(values, low, high)[0]


def _chosen(values: Values, range: Range, largest: int, lowest: float, highest: float) -> tuple[float, float]:
    if range == "full":
        _check_full(values, lowest, highest, largest)
        return 0.0, float(largest)
    return _auto(values, lowest, highest) if range == "auto" else range


def _map(values: Values, low: float, high: float) -> tuple[Array8, NDArray[np.int64], int]:
    """Return (H, W, 3) pixels, the count of each of the 256 values, and the number of values outside the range."""
    pixels = np.empty((*values.shape[:2], 3), dtype=np.uint8)
    counts, outside = np.zeros(256, dtype=np.int64), 0
    short = values.dtype.kind == "u" and values.dtype.itemsize <= 2
    table = _to_8_bit(np.arange(LARGEST_16 + 1, dtype=np.float64), low, high) if short else None
    rows = max(STRIP // values.shape[1], 1)
    for top in range(0, len(values), rows):
        part = values[top : top + rows]
        outside += int(np.count_nonzero((part < low) | (part > high)))
        eight = _to_8_bit(part.astype(np.float64), low, high) if table is None else table[part]
        counts += np.bincount(eight.reshape(-1), minlength=256)
        pixels[top : top + rows] = eight if eight.ndim == 3 else eight[:, :, None]
    return pixels, counts, outside


def _to_8_bit(part: NDArray[np.float64], low: float, high: float) -> Array8:
    """(…) values → 0…255, rounded to the nearest."""
    if high <= low:  # "auto" of a picture with one value
        return np.zeros(part.shape, dtype=np.uint8)
    np.nan_to_num(part, copy=False, nan=low, posinf=high, neginf=low)
    part = np.clip(part, low, high)
    # halves first: high − low may overflow a float
    scaled = (part / 2 - low / 2) / (high / 2 - low / 2)
    return np.rint(scaled * 255).astype(np.uint8)


def _extremes(values: Values) -> tuple[float, float, int]:
    """Return (least, greatest, number of values that are not finite). Raises DataError if no value is finite."""
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max()), 0
    finite = np.isfinite(values)
    missing = values.size - int(np.count_nonzero(finite))
    if missing == values.size:
        raise DataError("every pixel is NaN or infinite; the picture is empty")
    return float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf)), missing


def _check_full(values: Values, lowest: float, highest: float, largest: int) -> None:
    held = f"from {lowest:g} to {highest:g}"
    if values.dtype.kind == "f":
        raise NoRangeError(f"float pixels {held} do not state a range; {STATE}")
    if lowest < 0 or highest > largest:
        raise NoRangeError(f"pixels {held} do not fit 0 to {largest}; {STATE}")


def _auto(values: Values, lowest: float, highest: float) -> tuple[float, float]:
    flat = values.reshape(-1)
    some = flat[:: max(flat.size // SAMPLES, 1)]
    some = some[np.isfinite(some)] if some.dtype.kind == "f" else some
    low, high = np.percentile(some, AUTO) if some.size else (lowest, highest)
    return (float(low), float(high)) if low < high else (lowest, highest)


def dark_colour(pixels: Array8) -> list[Remark]:
    """Return the remarks as for grey pictures.

    pixels: (H, W, 3), the upper bytes of 16-bit colours, read without a range.
    """
    counts = np.zeros(256, dtype=np.int64)
    rows = max(STRIP // pixels.shape[1], 1)
    for top in range(0, len(pixels), rows):
        counts += np.bincount(pixels[top : top + rows].reshape(-1), minlength=256)
    seen = np.flatnonzero(counts)
    if len(seen) < 2 or not _is_dark(counts):
        return []
    bulk = 256.0 * _brightest(counts) + 255
    return [_dark(counts, (256.0 * seen[0], 256.0 * seen[-1] + 255), bulk, (0, LARGEST_16))]


def _is_dark(counts: NDArray[np.int64]) -> bool:
    """Return whether a picture uses at most a quarter of the range and so looks black; a few bright pixels aside."""
    return bool(counts[DARK:].sum() <= OUTLIERS / 100 * counts.sum())


def _brightest(counts: NDArray[np.int64]) -> int:
    """Return the greatest of the 256 values shown, without the outliers."""
    return 255 - int(np.flatnonzero(counts[::-1].cumsum() > OUTLIERS / 100 * counts.sum())[0])


def _bulk(values: Values, highest: float) -> float:
    """Return the greatest value without the outliers, such as broken pixels of a sensor."""
    flat = values.reshape(-1)
    some = flat[:: max(flat.size // SAMPLES, 1)]
    some = some[np.isfinite(some)] if some.dtype.kind == "f" else some
    return float(np.percentile(some, 100 - OUTLIERS, method="lower")) if some.size else highest


def _dark(counts: NDArray[np.int64], held: tuple[float, float], bulk: float, stated: tuple[float, float]) -> Remark:
    """Return the remark about a picture that looks black.

    counts: of each of the 256 values shown. held: the least and greatest value in the file. bulk: the greatest value
    without outliers. The suggested range goes by this one.
    """
    (lowest, highest), (low, high) = held, stated
    message = (
        f"values from {lowest:g} to {highest:g} use a small part of the range {low:g} to {high:g}: "
        f"the network sees 0 to {_brightest(counts)} of 255"
    )
    if _power(bulk) < _power(highest):
        message += f"; at most {OUTLIERS:g} % of the values lie above {bulk:g}, such as broken pixels of the sensor"
        highest = bulk
    top = _power(highest)
    example = f"0,{top - 1}" if lowest >= 0 and highest > 1 and top <= LARGEST_16 else f"{lowest:g},{highest:g}"
    remedy = f"state the range of the values, such as --range {example}, or use --range auto"
    return Remark("unused-range", message, remedy)


def _power(highest: float) -> int:
    """Return the number of values of so many bits that `highest` fits; at least 256."""
    top = 256
    while top - 1 < highest:
        top *= 2
    return top
