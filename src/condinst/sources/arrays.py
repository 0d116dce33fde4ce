"""Convert arrays and tensors to (H, W, 3) uint8 RGB.

uint8 values stay the same. For bool, False is black and True is white. The range maps uint16, other integers and floats
to black and white; without a range, 0 is black and 1 is white for floats. A grey picture gets three equal channels. A
picture with four channels is RGBA and is composed over black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from condinst.data.pictures.image import MAX_PIXELS, convert_image
from condinst.data.pictures.values import Shown, show_values
from condinst.errors import DataError, UsageError
from condinst.settings.kinds import FULL, Range

UNIT = (0.0, 1.0)  # range of floats, as in torchvision and scikit-image


def show_array(array: NDArray[Any], name: str, range: Range = FULL) -> Shown:
    """Convert an array of shape (H, W) or (H, W, 1 | 3 | 4). The channels are RGB or RGBA.

    Raises UsageError for another shape or type, DataError for floats outside [0, 1] without a range.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        hint = "; use transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise UsageError(f"{name}: expected (H, W) or (H, W, 1, 3 or 4), got {array.shape}{hint}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not array.dtype.isnative:  # the other byte order, as of FITS and some TIFF files
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    if array.dtype == np.uint8:
        return Shown(_to_rgb(array, name))
    alpha = array.ndim == 3 and array.shape[2] == 4
    shown = _show(array[:, :, :3] if alpha else array, name, _range_of(array, name, range))
    if not alpha:
        return shown
    opacity = _show(array[:, :, 3], name, _full_range(array))
    return Shown(_to_rgb(np.concatenate((shown.pixels, opacity.pixels[:, :, :1]), axis=2), name), shown.remarks)


def show_tensor(tensor: Tensor, name: str, range: Range = FULL) -> Shown:
    """Convert a tensor of shape (H, W) or (1 | 3 | 4, H, W) on any device. See `show_array` for values and errors."""
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
        hint = "; use permute(2, 0, 1)" if tensor.ndim == 3 and tensor.shape[2] in (1, 3, 4) else ""
        raise UsageError(f"{name}: expected (C, H, W) with C = 1, 3 or 4, or (H, W), got {tuple(tensor.shape)}{hint}")
    values = tensor.detach().cpu()
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    array = values.numpy()
    return show_array(np.moveaxis(array, 0, 2) if array.ndim == 3 else array, name, range)


def _range_of(array: NDArray[Any], name: str, range: Range) -> Range:
    """Return the range of the call or model; without one, the range of the data type."""
    kind, asked = array.dtype.kind, "state range=(LOW, HIGH), such as range=(0, 255)"
    if kind not in "iuf":
        raise UsageError(f"{name}: expected uint8, uint16, bool or float values")
    if range != FULL or array.dtype == np.uint16:
        return range
    if kind != "f":
        raise UsageError(f"{name}: {array.dtype} does not state a range; convert it to uint8, or {asked}")
    finite = np.isfinite(array)
    low, high = (float(end(array, where=finite, initial=0)) for end in (np.min, np.max))
    if low < 0 or high > 1:
        raise DataError(f"{name}: floats from {low:g} to {high:g} are not in 0 to 1; {asked}")
    return UNIT


def _show(array: NDArray[Any], name: str, range: Range) -> Shown:
    try:
        return show_values(array, range)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _full_range(array: NDArray[Any]) -> Range:
    return UNIT if array.dtype.kind == "f" else (0.0, float(np.iinfo(array.dtype).max))


def _to_rgb(array: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    return convert_image(Image.fromarray(np.ascontiguousarray(array)), name, max(MAX_PIXELS, array.size)).pixels
