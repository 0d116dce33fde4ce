"""Compare single pictures with their annotation, and draw missed objects and false predictions in red."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.data.pictures.image import FIRST_PAGE, Reading, read_picture
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.evaluation import judge
from condinst.evaluation.analysis import Fit
from condinst.evaluation.evaluate import Predicts, count_boxed, predict
from condinst.evaluation.judge import NOTHING, Bools
from condinst.evaluation.match import match_classes
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode
from condinst.ops.drawing.draw import draw_instances
from condinst.ops.drawing.palette import PALETTE, spread_colours
from condinst.ops.drawing.sheet import fit_within
from condinst.settings.prediction import SHOWN_SCORE

Picture = NDArray[np.uint8]

WRONG = 0  # red of the palette, for missed objects and false predictions
RIGHT = (1, 3, 2, 6, 8, 9)  # colours of the palette that differ clearly from red


class Match(NamedTuple):
    """The pairs of predictions and objects.

    truth_of: (K,) int64, the object that each prediction finds, or −1. found_by: (M,) int64, the prediction that finds
    each object, or −1.
    """

    truth_of: NDArray[np.int64]
    found_by: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        return int((self.truth_of >= 0).sum())


class Case(NamedTuple):
    """A picture with its annotated objects, its predictions and their pairs at IoU 0.5.

    `truth` has no crowd regions, and `predicted` has no predictions that lie on crowd regions.
    """

    path: Path
    truth: Result
    predicted: Result
    matched: Match
    fit: Fit


def truth_of(sample: Sample, classes: tuple[str, ...]) -> Result:
    """The annotated objects as a Result with scores of 1. Crowd regions and objects without a mask are left out."""
    return _result(sample, [one for one in sample.instances if one.shape is not None and not one.crowd], classes)


def make_case(sample: Sample, predicted: Result, boxes: bool = False) -> Case:
    """Compare the predictions of one picture with its annotation.

    predicted: with the labels of the data set. boxes: compare boxes instead of masks.
    """
    classes = tuple(predicted.names.values())
    things = [one for one in sample.instances if boxes or one.shape is not None]
    regions, crowd = _result(sample, things, classes), np.array([one.crowd for one in things], dtype=np.bool_)
    if boxes:
        predicted, regions = _as_boxes(predicted), _as_boxes(regions)
    lies = np.append(crowd, False)[match(predicted, regions, 0.5, crowd).truth_of]
    predicted, truth = predicted[~lies], regions[~crowd]
    loose, strict = match(predicted, truth, 0.5), match(predicted, truth, 0.75)
    fit = Fit(sample.path.name, len(truth), len(predicted), loose.pairs, strict.pairs)
    return Case(sample.path, truth, predicted, loose, fit)


def predict_case(
    sample: Sample, predictor: Predicts, data: AnnotatedData, score: float = SHOWN_SCORE, limit: int | None = None
) -> Case:
    """Predict a picture and compare the predictions with its annotation.

    score: lowest score of a prediction. limit: most predictions of each class. The function compares masks, or boxes if
    the data set has objects without a mask.
    """
    found = predict(predictor, sample, match_classes(predictor.names, data)[0], data)
    counts: Counter[int] = Counter()
    kept = []
    for row, (label, confidence) in enumerate(zip(found.boxes.cls.tolist(), found.boxes.conf.tolist(), strict=True)):
        counts[label] += 1
        if confidence >= score and (limit is None or counts[label] <= limit):
            kept.append(row)
    return make_case(sample, found[kept], boxes=count_boxed(data) > 0)


def match(predicted: Result, truth: Result, iou: float, crowd: Bools | None = None) -> Match:
    """Pair predictions with objects of the same class, by COCO's rule.

    In the order of their scores, each prediction gets the free object with the highest mask IoU, if the IoU is at least
    `iou`. crowd: (M,) bool, which objects are crowd regions.
    """
    crowds = np.zeros(len(truth), dtype=np.bool_) if crowd is None else crowd
    overlaps = np.zeros((len(predicted), len(truth)))
    if overlaps.size:
        found, true = ([dict(rle) for rle in side.masks.rle] for side in (predicted, truth))
        overlaps = np.asarray(coco_mask.iou(found, true, crowds))
    overlaps[predicted.boxes.cls.numpy()[:, None] != truth.boxes.cls.numpy()] = NOTHING
    order = torch.argsort(predicted.boxes.conf, descending=True, stable=True).numpy()
    truth_index = np.full(len(predicted), NOTHING, dtype=np.int64)
    truth_index[order] = judge.match(overlaps[order], crowds, np.array([iou]))[0]
    found_by = np.full(len(truth), NOTHING, dtype=np.int64)
    found_by[truth_index[truth_index >= 0]] = np.flatnonzero(truth_index >= 0)
    return Match(truth_index, found_by)


def draw_panels(case: Case, side: int) -> list[Image.Image]:
    """Three panels: the picture, the annotation and the predictions. Each is at most `side` pixels long.

    Missed objects and false predictions are red. An object and the prediction that finds it have the same colour.
    """
    image, zoom = enlarge(case.path, side, case.predicted.reading)
    # colours spread over the annotated objects, so adjacent objects usually differ
    kinds = [RIGHT[index % len(RIGHT)] for index in spread(case.truth.boxes.xyxy.numpy())]
    truth = [kind if found >= 0 else WRONG for kind, found in zip(kinds, case.matched.found_by, strict=True)]
    predicted = [kinds[index] if index >= 0 else WRONG for index in case.matched.truth_of]
    drawn = [
        draw_instances(image, enlarge_masks(shown.masks.rle, zoom), *words_of(shown, zoom), [PALETTE[k] for k in kinds])
        for shown, kinds in ((case.truth, truth), (case.predicted, predicted))
    ]
    return [fit_within(Image.fromarray(panel), side, side) for panel in (image, *drawn)]


def describe(case: Case) -> tuple[str, str, str]:
    """A line of text for each of the three panels."""
    fit = case.fit
    loose, strict = fit.f1
    return (
        f"{case.path.stem:.24}, {case.truth.orig_shape[1]} by {case.truth.orig_shape[0]} px",
        f"truth: {fit.objects}, {fit.objects - fit.matched50} missed (red)",
        f"predicted: {fit.predicted}, {fit.predicted - fit.matched50} false (red); F1 {loose:.2f} / {strict:.2f}",
    )


def spread(boxes: NDArray[np.float32]) -> list[int]:
    """Indices into the palette that differ between adjacent boxes where possible."""
    return [PALETTE.index(colour) for colour in spread_colours(boxes)]


def words_of(shown: Result, zoom: int) -> tuple[NDArray[np.float32], list[str]]:
    """The boxes and class names to draw. With a single class the boxes are empty, so no names are drawn."""
    boxes = shown.boxes.xyxy.numpy() * (zoom if len(shown.names) > 1 else 0)
    return boxes, [shown.names[label] for label in shown.boxes.cls.tolist()]


def enlarge(path: Path, side: int, reading: Reading = FIRST_PAGE) -> tuple[Picture, int]:
    """The picture, enlarged by a whole number until it is at least `side` pixels long, and that number."""
    image = read_picture(path, reading=reading).pixels
    zoom = math.ceil(side / max(image.shape[:2]))
    larger = Image.fromarray(image).resize((image.shape[1] * zoom, image.shape[0] * zoom), Image.Resampling.BICUBIC)
    return np.asarray(larger), zoom


def enlarge_masks(masks: Sequence[Rle], zoom: int) -> list[Rle]:
    """Enlarge masks: each pixel becomes a square of `zoom` × `zoom` pixels."""
    regions = [(decode_region(rle), rle["size"]) for rle in masks]
    return [
        encode(Region(bitmap.repeat(zoom, 0).repeat(zoom, 1), x * zoom, y * zoom), height * zoom, width * zoom)
        for (bitmap, x, y), (height, width) in regions
    ]


def _result(sample: Sample, things: Sequence[Instance], classes: tuple[str, ...]) -> Result:
    """The given objects as a Result with scores of 1. An object without a mask gets an empty one."""
    size = (sample.height, sample.width)
    boxes = torch.tensor([one.box for one in things], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([one.label for one in things], dtype=torch.int64)
    none = encode(Region(np.zeros((0, 0), dtype=np.bool_), 0, 0), *size)
    masks = Masks(tuple(none if one.shape is None else one.shape.whole(*size) for one in things), size)
    shown = Boxes(boxes, torch.ones(len(things)), labels, size)
    return Result(shown, masks, dict(enumerate(classes)), size, sample.path)


def _as_boxes(shown: Result) -> Result:
    """Replace each mask by its filled box, rounded to whole pixels."""
    height, width = shown.orig_shape
    corners = shown.boxes.xyxy.round().long()
    corners[:, 0::2].clamp_(0, width)
    corners[:, 1::2].clamp_(0, height)
    rles = [
        encode(Region(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0), height, width)
        for x0, y0, x1, y1 in corners.tolist()
    ]
    return replace(shown, masks=Masks(tuple(rles), shown.orig_shape))
