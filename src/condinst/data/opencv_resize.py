"""Resize pictures as OpenCV's INTER_LINEAR does, bit for bit, for models that were trained with OpenCV."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Array8

ONE = 2048  # a weight of 1: OpenCV rounds weights to 11 bits


class _Line(NamedTuple):
    """Where the pixels along one axis come from: ((ONE − weight)·first + weight·second) / ONE.

    first, second: int64, source indices; they may lie one pixel outside. weight: int32.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.int32]


def resize_like_opencv(array: Array8, height: int, width: int) -> Array8:
    """(H, W, 3) uint8 → (height, width, 3) uint8: bilinear, with the centres of pixels at halves, without a blur.

    The arithmetic is OpenCV's, in integers: 11 bits for each weight, and 4 bits dropped between the two axes.
    """
    import torch  # `condinst data check` needs other parts of this folder without torch

    if array.shape[:2] == (height, width):
        return array
    if array.shape[:2] == (2 * height, 2 * width):  # OpenCV takes the mean of four
        wide = array.astype(np.uint16)
        total = wide[0::2, 0::2] + wide[0::2, 1::2] + wide[1::2, 0::2] + wide[1::2, 1::2] + 2
        return (total >> 2).astype(np.uint8)
    rows, columns = _line(array.shape[0], height), _line(array.shape[1], width)
    used, place = np.unique(np.concatenate((rows.first, rows.second)).clip(0, array.shape[0] - 1), return_inverse=True)
    # at the ends of a row, OpenCV gives all weight to the pixel that exists
    outside = (columns.first < 0) | (columns.first >= array.shape[1] - 1)
    first, second = (torch.from_numpy(i.clip(0, array.shape[1] - 1)) for i in (columns.first, columns.second))
    right = torch.from_numpy(np.where(outside, 0, columns.weight))[:, None]
    left = torch.from_numpy(np.where(outside, ONE, ONE - columns.weight))[:, None]
    # columns as rows, so that each step works on long runs of memory
    turned = torch.from_numpy(np.ascontiguousarray(array[used].transpose(1, 0, 2))).flatten(1)  # (W, rows·3)
    across = turned.index_select(0, first).to(torch.int32).mul_(left.int())
    across.addcmul_(turned.index_select(0, second).to(torch.int32), right.int()).bitwise_right_shift_(4)
    lines = across.reshape(width, len(used), -1).transpose(0, 1).reshape(len(used), -1)  # (rows, width·3)
    weight = torch.from_numpy(rows.weight)[:, None]
    above = lines.index_select(0, torch.from_numpy(place[:height])).mul_(ONE - weight).bitwise_right_shift_(16)
    below = lines.index_select(0, torch.from_numpy(place[height:])).mul_(weight).bitwise_right_shift_(16)
    mixed = above.add_(below).add_(2).bitwise_right_shift_(2).to(torch.uint8)
    resized: Array8 = mixed.reshape(height, width, -1).numpy()
    return resized


def _line(source: int, target: int) -> _Line:
    position = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    share = (position - first).astype(np.float32)
    return _Line(first, first + 1, np.rint(share * np.float32(ONE)).astype(np.int32))
