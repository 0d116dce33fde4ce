"""Masks and boxes of the detected instances in pixels of the original image (paper §3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condinst.config import Config
from condinst.inference.detect import take
from condinst.inference.full_size import Placement
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.paste import paste
from condinst.inference.regions import place
from condinst.inference.result import Result
from condinst.method import Draw
from condinst.ops.bitmaps.rle import Rle, crop, decode_region, encode, tighten
from condinst.ops.boxes import clip_boxes, scale_boxes
from condinst.structures import Detections, Images


def assemble(output: Any, found: Sequence[Detections], images: Images, draw: Draw, config: Config) -> list[Result]:
    """Make one Result for each image. draw: see `condinst.method.Method`.

    Boxes are scaled to the original image. They are clipped to it where `Geometry.clips` says so, and an instance with
    an empty box is dropped. A method without boxes keeps all instances, and the boxes enclose their masks; the box of
    an empty mask is zero.
    """
    model = config.model
    names = dict(enumerate(model.classes))
    results = []
    for index, detections in enumerate(found):
        size, original = images.sizes[index], images.original_sizes[index]
        boxes = scale_boxes(detections.boxes, size, original)
        if model.geometry.clips == "picture":
            boxes = clip_boxes(boxes, original)
        if model.geometry.clips != "masks":
            visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            detections, boxes = take(detections, visible), boxes[visible]
        boxes = boxes.float().cpu()
        placement = Placement.of(images, index, config)
        rles: list[Rle] = []
        for values in draw(output, index, detections, model):
            rles += _place(values.float().cpu(), boxes[len(rles) : len(rles) + len(values)], placement)
        if model.geometry.cut:
            rles = [_cut(rle, box) for rle, box in zip(rles, boxes.tolist(), strict=True)]
        if model.geometry.clips == "masks":
            boxes = torch.tensor([_extent(rle) for rle in rles], dtype=torch.float32).reshape(-1, 4)
        shown = Boxes(boxes, detections.scores.float().cpu(), detections.labels.cpu(), original)
        results.append(Result(shown, Masks(tuple(rles), original), names, original))
    return results


def _place(values: Tensor, boxes: Tensor, placement: Placement) -> list[Rle]:
    """The masks of K instances. values: (K, h, w), see `Geometry.enlarging`. boxes: (K, 4) in the original image."""
    if placement.enlarging == "boxed":
        return paste(values, boxes, placement.original, placement.threshold)
    return place(values, placement)


def _cut(rle: Rle, box: list[float]) -> Rle:
    """The pixels of a mask whose centres lie inside a box (x0, y0, x1, y1)."""
    left, top, right, bottom = (math.ceil(side - 0.5) for side in box)
    return encode(crop(decode_region(rle), left, top, right, bottom), *rle["size"])


def _extent(rle: Rle) -> tuple[int, int, int, int]:
    """The smallest box (x0, y0, x1, y1) around a mask, zeros for an empty mask."""
    region = tighten(decode_region(rle))
    if region is None:
        return 0, 0, 0, 0
    height, width = region.bitmap.shape
    return region.x, region.y, region.x + width, region.y + height
