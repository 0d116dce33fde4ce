"""Finds the annotated objects that training can use at an input size, by the rule that assigns objects to locations."""

from __future__ import annotations

import numpy as np

from condinst.config import Config
from condinst.data.findings import Finding, Report
from condinst.data.sample import Sample
from condinst.data.transforms import input_shape
from condinst.doctor.checks.claims import NOWHERE, find_claims
from condinst.doctor.checks.shapes import finding_about
from condinst.doctor.checks.visible import Visible, see

ENLARGE = "enlarge the input (input.shorter in training, --size here)"
THIN = 3  # ratio of the longer to the shorter side


def check_reach(sample: Sample, config: Config, tell: Report) -> list[int]:
    """Return the pyramid level (0 is P3) that claims each object of `sample`, without crowds. Report unclaimed objects.

    The dynamic assigner decides by the predictions, so no level claims an object before training. The anchors of YOLACT
    leave no object unclaimed. Then the list is empty, and no object is reported as unclaimed.

    The input has the size of `config.input`, without augmentation. Objects with a mask that has no pixel at the stride
    of predicted masks are reported, too.
    """
    size = input_shape(sample.height, sample.width, config.input)
    stride = config.model.truth_stride
    things = see(sample, *size, stride)
    if not things:
        return []
    if not config.size_decides_level:
        for thing in things:
            if not thing.sampled:
                tell(_too_small(sample, thing, size, stride))
        return []
    divisor = config.model.size_divisor
    height, width = (-(-side // divisor) * divisor for side in size)
    boxes = np.array([thing.box for thing in things], dtype=np.float32)
    centroids = np.array([thing.centroid for thing in things], dtype=np.float32)
    if config.model.geometry.centre == "box":
        centroids = np.float32(0.5) * (boxes[:, :2] + boxes[:, 2:])
    claims = find_claims(boxes, centroids, (height, width), config.model.size_ranges, config.targets.center_radius)
    levels: list[int] = claims.level.tolist()
    for thing, level, alone in zip(things, levels, claims.alone.tolist(), strict=True):
        if level == NOWHERE:
            tell(_unclaimed(sample, thing, size, alone))
        elif not thing.sampled:
            tell(_too_small(sample, thing, size, stride))
    return levels


def _extent(thing: Visible, size: tuple[int, int]) -> str:
    x0, y0, x1, y1 = thing.box
    return f"at an input of {size[1]}×{size[0]} it has {x1 - x0:.1f}×{y1 - y0:.1f} pixels"


def _unclaimed(sample: Sample, thing: Visible, size: tuple[int, int], alone: bool) -> Finding:
    if alone:
        message = f"{_extent(thing, size)} and smaller objects take all locations at its centre, so training skips it"
        return finding_about(
            sample, thing.instance, "no-location", "warning", message, "check the annotation; a larger input may help"
        )
    x0, y0, x1, y1 = thing.box
    message = f"{_extent(thing, size)} and no location of its level lies at its centre, so training skips it"
    remedy = ENLARGE
    if max(x1 - x0, y1 - y0) > THIN * min(x1 - x0, y1 - y0):
        remedy = "train with several input sizes (augment.shorter); a thin object may have a location at another size"
    return finding_about(sample, thing.instance, "no-location", "warning", message, remedy)


def _too_small(sample: Sample, thing: Visible, size: tuple[int, int], stride: int) -> Finding:
    message = f"{_extent(thing, size)}, so its mask has no pixel at stride {stride}"
    return finding_about(sample, thing.instance, "too-small", "warning", message, ENLARGE)
