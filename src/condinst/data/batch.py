"""Joins pictures and their truth into the batches that the network and the training targets take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from condinst.data.sample import Array8
from condinst.structures import Images, Truth


class Example(NamedTuple):
    """One training picture.

    image: (H, W, 3) uint8 RGB. original_size: (height, width) of the file. paths: the files of the picture; the first
    path is the main picture. key: (epoch, index). The key and the seed decide all random changes.
    """

    image: Array8
    original_size: tuple[int, int]
    truth: Truth
    paths: tuple[Path, ...] = ()
    key: tuple[int, int] = (0, 0)


class Batch(NamedTuple):
    """N pictures and the truth of each picture.

    Masks keep the size of their own picture. paths and keys: one per picture, see `Example`.
    """

    images: Images
    truths: tuple[Truth, ...]
    paths: tuple[tuple[Path, ...], ...] = ()
    keys: tuple[tuple[int, int], ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        images = self.images._replace(tensor=self.images.tensor.to(device, non_blocking=True))
        truths = (Truth(*(part.to(device, non_blocking=True) for part in truth)) for truth in self.truths)
        return self._replace(images=images, truths=tuple(truths))


@dataclass(frozen=True)
class Collate:
    """Examples → Batch, for a DataLoader. Means and deviations are on the 0–255 scale, in channel order.

    pad_value, square: see `make_images`.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str
    divisor: int
    pad_value: float | None = None
    square: int = 0

    def __call__(self, examples: list[Example]) -> Batch:
        """Normalise and pad the pictures to one size."""
        images = make_images(
            [example.image for example in examples],
            [example.original_size for example in examples],
            self.mean,
            self.std,
            self.channel_order,
            self.divisor,
            self.pad_value,
            self.square,
        )
        truths, paths, keys = zip(*((example.truth, example.paths, example.key) for example in examples), strict=True)
        return Batch(images, truths, paths, keys)


def make_images(
    arrays: list[Array8],
    original_sizes: list[tuple[int, int]],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channel_order: str,
    divisor: int,
    pad_value: float | None = None,
    square: int = 0,
) -> Images:
    """N pictures (h, w, 3) uint8 RGB → (N, 3, H, W) float32, normalised, padded right and bottom.

    H and W are the largest h and w, at least `square`, rounded up to multiples of `divisor`. `channel_order` is "RGB"
    or "BGR". pad_value: from 0 to 255; None pads with zeros after the normalisation.
    """
    sizes = tuple((array.shape[0], array.shape[1]) for array in arrays)
    height, width = (-(-max(*side, square) // divisor) * divisor for side in zip(*sizes, strict=True))
    padding = torch.zeros(3, 1, 1) if pad_value is None else (pad_value - _column(mean)) / _column(std)
    tensor = padding.repeat(len(arrays), 1, height, width)
    for target, array in zip(tensor, arrays, strict=True):
        channels = _channels(array, channel_order)
        target[:, : array.shape[0], : array.shape[1]] = (channels - _column(mean)) / _column(std)
    return Images(tensor, sizes, tuple(original_sizes))


def _channels(array: Array8, channel_order: str) -> Tensor:
    """(h, w, 3) RGB → (3, h, w) float32 in channel order."""
    ordered = array if channel_order == "RGB" else array[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(ordered.transpose(2, 0, 1), dtype=np.float32))


def _column(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).reshape(3, 1, 1)
