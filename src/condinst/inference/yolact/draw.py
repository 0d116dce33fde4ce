"""The masks of YOLACT: sums of prototypes, cut to the boxes (arXiv 1904.02689, §3.2)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from condinst.inference.logits import NUMBERS_AT_ONCE
from condinst.model.yolact import YolactOutput
from condinst.ops.boxes import box_cells
from condinst.ops.prototypes import mix_prototypes
from condinst.settings.model import ModelConfig
from condinst.structures import Detections


def draw_prototypes(output: YolactOutput, image: int, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the mask probabilities of the instances of one image in chunks (k, h, w) float32, 0 outside of their boxes.

    The maps have the size of the prototypes and show the whole input.
    """
    prototypes = output.prototypes[image].float()
    height, width = output.size.tolist()
    at_once = max(1, NUMBERS_AT_ONCE // max(prototypes[0].numel(), 1))
    for first in range(0, len(found.scores), at_once):
        part = slice(first, first + at_once)
        probabilities = mix_prototypes(prototypes, found.filters[part].float())
        yield probabilities * box_cells(found.boxes[part], (height, width), (prototypes.shape[1], prototypes.shape[2]))
