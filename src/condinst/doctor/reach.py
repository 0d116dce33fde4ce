"""Finds the annotated objects that training can use at an input size, by the rule that assigns objects to locations."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from condinst.config import Config
from condinst.data.findings import Finding, Report
from condinst.data.sample import Sample
from condinst.data.transforms import resize_shape
from condinst.doctor.shapes import told
from condinst.doctor.visible import Visible, see
from condinst.ops.locations import level_sizes
from condinst.training.targets import Grid, assign_image, make_grid

ENLARGE = "enlarge the input (input.shorter in training, --size here)"
THIN = 3  # ratio of the longer to the shorter side
NOWHERE = -1  # the level of an object that no location claims


def check_reach(sample: Sample, config: Config, tell: Report) -> list[int]:
    """Return the pyramid level (0 is P3) that claims each object of `sample`, without crowds. Report unclaimed objects.

    The input has the size of `config.input`, without augmentation. Objects with a mask that has no pixel at the stride
    of predicted masks are reported, too.
    """
    size = resize_shape(sample.height, sample.width, config.input.shorter, config.input.longer)
    stride = config.model.mask_head.mask_out_stride
    things = see(sample, *size, stride)
    if not things:
        return []
    grid = _grid(size, config.model.size_divisor, config.model.size_ranges)
    boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32)
    centroids = torch.tensor([thing.centroid for thing in things], dtype=torch.float32)
    levels = _levels(grid, assign_image(grid, boxes, centroids, config.targets.center_radius), len(things))
    for index, thing in enumerate(things):
        if levels[index] == NOWHERE:
            one = slice(index, index + 1)
            alone = assign_image(grid, boxes[one], centroids[one], config.targets.center_radius)
            tell(_unclaimed(sample, thing, size, bool((alone >= 0).any())))
        elif not thing.sampled:
            tell(_too_small(sample, thing, size, stride))
    return levels


@lru_cache(maxsize=16)
def _grid(size: tuple[int, int], divisor: int, size_ranges: tuple[tuple[float, float], ...]) -> Grid:
    """Return all locations of an input of that size, padded. Most pictures of a set share a few sizes."""
    height, width = (-(-side // divisor) * divisor for side in size)
    return make_grid(level_sizes(height, width), size_ranges, torch.device("cpu"))


def _levels(grid: Grid, chosen: Tensor, count: int) -> list[int]:
    """Return, for each of `count` objects, the level with most of its locations."""
    level = torch.arange(len(grid.sizes)).repeat_interleave(grid.sizes.prod(1))
    positive = chosen >= 0
    votes = torch.bincount(level[positive] * count + chosen[positive], minlength=len(grid.sizes) * count)
    most, which = votes.reshape(len(grid.sizes), count).max(0)
    levels: list[int] = torch.where(most > 0, which, NOWHERE).tolist()
    return levels


def _extent(thing: Visible, size: tuple[int, int]) -> str:
    x0, y0, x1, y1 = thing.box
    return f"at an input of {size[1]}×{size[0]} it has {x1 - x0:.1f}×{y1 - y0:.1f} pixels"


def _unclaimed(sample: Sample, thing: Visible, size: tuple[int, int], alone: bool) -> Finding:
    if alone:
        message = f"{_extent(thing, size)} and smaller objects take all locations at its centre: none learns it"
        return told(
            sample, thing.instance, "no-location", "warning", message, "check the annotation; a larger input may help"
        )
    x0, y0, x1, y1 = thing.box
    message = f"{_extent(thing, size)} and no location of its level lies at its centre: none learns it"
    remedy = ENLARGE
    if max(x1 - x0, y1 - y0) > THIN * min(x1 - x0, y1 - y0):
        remedy = "thin as it is, it may be reached at other sizes: train with several (augment.shorter)"
    return told(sample, thing.instance, "no-location", "warning", message, remedy)


def _too_small(sample: Sample, thing: Visible, size: tuple[int, int], stride: int) -> Finding:
    message = f"{_extent(thing, size)}, and no pixel of its mask is left at stride {stride}"
    return told(sample, thing.instance, "too-small", "warning", message, ENLARGE)
