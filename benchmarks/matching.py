"""Truth as a `Result`, and which predicted masks fit which true ones."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
import torch
from numpy.typing import NDArray

from condinst.config import Config
from condinst.data.sample import AnnotatedData, Sample
from condinst.inference.result import Boxes, Masks, Result


class Match(NamedTuple):
    """truth_of: (K,) the true object that each prediction found, −1 for none. found_by: (M,) the other way round."""

    truth_of: NDArray[np.int64]
    found_by: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        return int((self.truth_of >= 0).sum())


class TruthPredictor:
    """Answers with the annotations: its scores are the best that a detection limit allows."""

    def __init__(self, data: AnnotatedData, max_detections: int) -> None:
        self.config = Config.from_dict({"detect": {"max_detections": max_detections}})
        self.samples = {sample.path: sample for sample in data.samples}
        self.classes = data.classes

    @property
    def names(self) -> dict[int, str]:
        return dict(enumerate(self.classes))

    def __call__(self, source: Path) -> Result:
        return truth_of(self.samples[source], self.classes)


def truth_of(sample: Sample, classes: tuple[str, ...]) -> Result:
    """The annotated objects with score 1. Crowds and objects with only a box are left out."""
    size = (sample.height, sample.width)
    drawn = [(instance, instance.shape) for instance in sample.instances if instance.shape is not None]
    boxes = torch.tensor([instance.box for instance, _ in drawn], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([instance.label for instance, _ in drawn], dtype=torch.int64)
    masks = Masks(tuple(shape.whole(*size) for _, shape in drawn), size)
    return Result(Boxes(boxes, torch.ones(len(drawn)), labels), masks, dict(enumerate(classes)), size, sample.path)


def match(predicted: Result, truth: Result, iou: float) -> Match:
    """Best score first, each prediction takes the free true object of its class that its mask overlaps most.

    A pair needs an IoU of at least `iou`.
    """
    truth_index = np.full(len(predicted), -1, dtype=np.int64)
    found_by = np.full(len(truth), -1, dtype=np.int64)
    if not len(predicted) or not len(truth):
        return Match(truth_index, found_by)
    overlaps = np.asarray(
        coco_mask.iou(
            [dict(rle) for rle in predicted.masks.rle], [dict(rle) for rle in truth.masks.rle], [False] * len(truth)
        )
    )
    overlaps[predicted.boxes.cls.numpy()[:, None] != truth.boxes.cls.numpy()] = 0
    for row in torch.argsort(predicted.boxes.conf, descending=True, stable=True).tolist():
        free = np.where(found_by < 0, overlaps[row], 0)
        best = int(free.argmax())
        if free[best] >= iou:
            truth_index[row], found_by[best] = best, row
    return Match(truth_index, found_by)
