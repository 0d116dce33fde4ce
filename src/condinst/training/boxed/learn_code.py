"""Learn MEInst's mask code from the masks of a training set (arXiv 2003.11712, §3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.data.sample import AnnotatedData, Instance, Polygons, Sample
from condinst.errors import DataError
from condinst.ops.bitmaps.rle import decode, draw_polygons
from condinst.ops.mask_code import decode_logits, encode, soft_logits
from condinst.structures import MaskCode
from condinst.training.boxed.targets import crop_mask

AT_ONCE = 1024  # masks that are added to the sums together
HELD_OUT = 10  # every tenth mask measures the code, until there are MOST_HELD of them
MOST_HELD = 2000
THINNEST = 0.1  # least side of a box in pixels, as in the published program
Square = NDArray[np.bool_]


class Learned(NamedTuple):
    """A mask code and its quality.

    ratio: (D,), the share of each component in the variance. masks: number of masks that it was learned from. held:
    number of other masks; iou: the mean IoU of these with what their codes draw.
    """

    code: MaskCode
    ratio: Tensor
    masks: int
    held: int
    iou: float


def squares_of(data: AnnotatedData, side: int, tell: Callable[[int, int], None] | None = None) -> Iterator[Square]:
    """The masks of all instances inside their boxes, (side, side) each. Crowds and objects without a mask are left out.

    tell: gets the number of pictures done and of all pictures.
    """
    for number, sample in enumerate(data.samples, start=1):
        for instance in sample.instances:
            square = None if instance.crowd else square_of(instance, sample, side)
            if square is not None and square.any():
                yield square
        if tell is not None:
            tell(number, len(data.samples))


def square_of(instance: Instance, sample: Sample, side: int) -> Square | None:
    """The mask of an instance inside its box, or None without a mask.

    Polygons are scaled to the square and drawn there by COCO's rule. Other masks are sampled as in `crop_mask`.
    """
    if instance.shape is None:
        return None
    if isinstance(instance.shape, Polygons):
        corners = np.array(instance.box, dtype=np.float32)  # the published program computes the scale in float32
        scale = np.float32(side) / np.maximum(corners[2:] - corners[:2], np.float32(THINNEST))
        return decode(draw_polygons([(part - corners[:2]) * scale for part in instance.shape.parts], side, side))
    mask = torch.from_numpy(instance.shape.decode())
    place, size = (instance.shape.x, instance.shape.y), (sample.height, sample.width)
    return crop_mask(mask, place, torch.tensor(instance.box, dtype=torch.float32), side, size).numpy()


def learn_code(squares: Iterable[Square], numbers: int, seed: int = 0) -> Learned:
    """Learn a code of `numbers` numbers by principal component analysis of the logits of soft labels.

    The memory does not grow with the number of masks, and the same masks in the same order give the same code. Raises
    DataError if there are too few masks.
    """
    generator = torch.Generator().manual_seed(seed)
    held: list[Square] = []
    sums = _Sums(numbers)
    kept = _kept(squares, held)
    while batch := list(islice(kept, AT_ONCE)):
        masks = torch.from_numpy(np.stack(batch)).flatten(1)
        sums.add(soft_logits(masks, torch.rand(masks.shape, generator=generator)))
    code, ratio = sums.solve()
    iou = _quality(code, held, generator) if held else float("nan")
    return Learned(code, ratio, sums.count, len(held), iou)


def _kept(squares: Iterable[Square], held: list[Square]) -> Iterator[Square]:
    """The masks to learn from. The others go to `held`."""
    for number, square in enumerate(squares, start=1):
        if number % HELD_OUT == 0 and len(held) < MOST_HELD:
            held.append(square)
        else:
            yield square


class _Sums:
    """The sums that mean and covariance of vectors (K, m²) need, in float64. numbers: wanted components."""

    def __init__(self, numbers: int) -> None:
        self.numbers, self.count = numbers, 0
        self.total = self.products = torch.zeros((), dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        wide = vectors.double()
        self.count += len(wide)
        self.total = self.total + wide.sum(dim=0)
        self.products = self.products + wide.T @ wide

    def solve(self) -> tuple[MaskCode, Tensor]:
        """The code, and the share of each component in the variance. The largest entry of a component is positive."""
        cells = self.total.numel()
        if self.count <= self.numbers + 1 or cells < self.numbers:
            raise DataError(
                f"a code of {self.numbers} numbers needs more than {self.numbers + 1} masks with as many cells, got "
                f"{self.count}; give more data, or a smaller --numbers"
            )
        mean = self.total / self.count
        covariance = (self.products - self.count * mean[:, None] * mean) / (self.count - 1)
        variances, vectors = torch.linalg.eigh(covariance)
        order = variances.argsort(descending=True)[: self.numbers]
        components = vectors[:, order].T
        largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
        found = variances[order]
        code = MaskCode((components * largest.sign()).float(), found.float(), mean.float())
        return code, (found / variances.clamp(min=0).sum()).float()


def _quality(code: MaskCode, held: list[Square], generator: torch.Generator) -> float:
    """The mean IoU of masks with what their codes draw."""
    masks = torch.from_numpy(np.stack(held)).flatten(1)
    uniform = torch.rand(masks.shape, generator=generator)
    drawn = decode_logits(encode(soft_logits(masks, uniform), code), code) >= 0
    overlap, union = (drawn & masks).sum(dim=1), (drawn | masks).sum(dim=1)
    return float((overlap / union).mean())
