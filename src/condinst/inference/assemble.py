"""Masks and boxes of the detected instances in pixels of the original image (paper §3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from condinst.config import Config
from condinst.inference.detect import take
from condinst.inference.full_size import Placement
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.regions import place
from condinst.inference.result import Result
from condinst.method import Draw
from condinst.ops.bitmaps.rle import Rle
from condinst.ops.boxes import clip_boxes, scale_boxes
from condinst.structures import Detections, Images, NetworkOutput


def assemble(
    output: NetworkOutput, found: Sequence[Detections], images: Images, draw: Draw, config: Config
) -> list[Result]:
    """Make one Result for each image. draw: see `condinst.method.Method`.

    Boxes are scaled to the original image. They are clipped to it where `Geometry.clips` says so, and an instance with
    an empty box is dropped. Masks are not clipped to boxes.
    """
    model = config.model
    names = dict(enumerate(model.classes))
    results = []
    for index, detections in enumerate(found):
        size, original = images.sizes[index], images.original_sizes[index]
        boxes = scale_boxes(detections.boxes, size, original)
        if model.geometry.clips == "picture":
            boxes = clip_boxes(boxes, original)
        visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        detections, boxes = take(detections, visible), boxes[visible]
        placement = Placement.of(images, index, config)
        rles: list[Rle] = []
        for logits in draw(output.mask_features[index], detections, model):
            rles += place(logits.cpu(), placement)
        shown = Boxes(boxes.float().cpu(), detections.scores.float().cpu(), detections.labels.cpu(), original)
        results.append(Result(shown, Masks(tuple(rles), original), names, original))
    return results
