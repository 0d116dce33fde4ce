"""Compare an exported program with the model it was made from, on real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.transforms import input_shape, resize_image
from condinst.inference.detect import detect
from condinst.inference.logits import mask_logits
from condinst.inference.network import Network
from condinst.sources.read import Picture
from condinst.structures import Images

SAME_BOX = 0.5  # IoU of two boxes that may show the same instance
ROUNDING = 1e-4  # of the mean absolute logit of a mask; a cell this close to 0 may round to either side


class Limits(NamedTuple):
    """The largest differences that an export accepts.

    box: pixels of the input. score: of an instance. mask_iou: the lowest IoU of two masks, see `Difference`.
    """

    box: float = 1e-2
    score: float = 1e-3
    mask_iou: float = 0.99


class Found(NamedTuple):
    """The instances of one image: boxes (K, 4), scores (K,), labels (K,) and mask logits (K, h, w)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    logits: Tensor


class Difference(NamedTuple):
    """How two answers for one picture differ.

    counts: instances of model and program. lost: instances that only one of them has, except those with the lowest
    scores, where rounding decides. box: largest difference of a corner in pixels of the input. score: largest
    difference of a score. mask_iou: the lowest IoU of two masks at the stride of the mask features, without the cells
    where rounding decides. cells, of: the differing cells and all cells of the mask maps. close: the largest absolute
    logit of the model in a differing cell; 0 without one.
    """

    picture: str
    counts: tuple[int, int]
    lost: int
    box: float
    score: float
    mask_iou: float
    cells: int
    of: int
    close: float = 0.0

    def beyond(self, limits: Limits) -> str:
        """What is above the limits, in words; empty if nothing is."""
        faults = []
        if self.lost:
            faults.append(f"{self.lost} instance{'s' * (self.lost > 1)} that only one of them has")
        if self.box > limits.box:
            faults.append(f"a box that differs by {self.box:.3g} px (limit {limits.box:g})")
        if self.score > limits.score:
            faults.append(f"a score that differs by {self.score:.3g} (limit {limits.score:g})")
        if self.mask_iou < limits.mask_iou:
            faults.append(f"a mask with IoU {self.mask_iou:.3f} (limit {limits.mask_iou:g})")
        return ", ".join(faults)


def prepare(pictures: Sequence[Picture], config: Config, fixed: tuple[int, int] | None = None) -> Images:
    """One batch of pictures for the model. fixed: (H, W), into which each picture is fitted and padded."""
    model, size = config.model, config.input
    originals = [(picture.array.shape[0], picture.array.shape[1]) for picture in pictures]
    if fixed is None:
        shapes = [input_shape(*original, size) for original in originals]
    else:
        shapes = [_fitted(*original, *fixed) for original in originals]
    arrays = [resize_image(one.array, *shape, size.resampling) for one, shape in zip(pictures, shapes, strict=True)]
    look = model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor, model.pad_value
    if fixed is None:
        return make_images(arrays, originals, *look, size.longer if size.letterbox else 0)
    images = make_images(arrays, originals, *look, max(fixed))
    return images._replace(tensor=images.tensor[:, :, : fixed[0], : fixed[1]].contiguous())


def _fitted(height: int, width: int, most_height: int, most_width: int) -> tuple[int, int]:
    """The largest shape with the same proportions."""
    scale = min(most_height / height, most_width / width)
    return max(1, round(scale * height)), max(1, round(scale * width))


@torch.inference_mode()
def answer_of_model(network: Network, images: Images, config: Config) -> list[Found]:
    """What the model finds in each image."""
    output = network(images.tensor)
    found = detect(output, config.model, config.detect)
    empty = output.mask_features.new_zeros(0, *output.mask_features.shape[2:])
    return [
        Found(one.boxes, one.scores, one.labels, torch.cat([empty, *mask_logits(features, one, config.model)]))
        for one, features in zip(found, output.mask_features, strict=True)
    ]


def answer_of_program(outputs: Sequence[object]) -> list[Found]:
    """What a whole program found in each image, from its outputs in the order of `ProgramOutput`."""
    boxes, scores, labels, counts, logits = (torch.as_tensor(np.asarray(output)) for output in outputs)
    return [
        Found(*(field[image, :count] for field in (boxes, scores, labels, logits)))
        for image, count in enumerate(counts.tolist())
    ]


def compare(picture: str, model: Found, program: Found) -> Difference:
    """Match the instances of two answers and measure how they differ."""
    iou = box_iou(model.boxes, program.boxes) * (model.labels[:, None] == program.labels[None])
    distance = (model.scores[:, None] - program.scores[None]).abs()
    rows, columns = linear_sum_assignment((distance - 2 * iou).numpy())  # of equal boxes, those of equal scores
    same = iou[rows, columns] > SAME_BOX
    mine, theirs = torch.as_tensor(rows)[same], torch.as_tensor(columns)[same]
    logits = model.logits[mine]
    a, b = logits > 0, program.logits[theirs] > 0
    certain = logits.abs() > ROUNDING * logits.abs().mean(dim=(1, 2), keepdim=True)
    union = ((a | b) & certain).flatten(1).sum(1)
    masks = torch.where(union > 0, (a & b & certain).flatten(1).sum(1) / union.clamp(min=1), 1.0)
    alone = _alone(model, mine) + _alone(program, theirs)
    return Difference(
        picture,
        (len(model.scores), len(program.scores)),
        alone,
        _largest((model.boxes[mine] - program.boxes[theirs]).abs()),
        _largest((model.scores[mine] - program.scores[theirs]).abs()),
        float(masks.min()) if len(masks) else 1.0,
        int((a != b).sum()),
        a.numel(),
        _largest(logits.abs()[a != b]),
    )


def _alone(found: Found, matched: Tensor) -> int:
    """The instances without a match, except those within rounding of the lowest score."""
    rest = torch.ones(len(found.scores), dtype=torch.bool)
    rest[matched] = False
    return int((found.scores[rest] > found.scores.min() + Limits().score).sum()) if rest.any() else 0


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def own_pictures() -> list[Path]:
    """The pictures that come with the package: cells, mushrooms and a street."""
    return sorted(path for path in (Path(__file__).parent / "pictures").iterdir() if path.suffix == ".jpg")
