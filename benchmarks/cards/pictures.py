"""Which held-out pictures a card shows, by a rule that anyone can repeat, and the pictures themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from condinst.data.pictures.image import read_image
from condinst.evaluation.analysis import Fit
from condinst.evaluation.cases import Case, describe, draw_panels, enlarge, enlarge_masks, words_of
from condinst.ops.drawing.draw import draw_instances
from condinst.ops.drawing.palette import class_colours, spread_colours
from condinst.ops.drawing.sheet import fit_within, join, to_jpeg

SIDES = (440, 360, 300, 260)  # longer side of a panel in pixels: the largest that fits LARGEST_JPEG
QUALITIES = (90, 80, 70)
LARGEST_JPEG, LARGEST_COVER = 60_000, 70_000  # bytes
COVER_HEIGHT = 320  # pixels
APART = 64  # mean difference of the mean colours, of 255, from which on two pictures are of different kinds


class Choice(NamedTuple):
    """Files that a card shows; fewer where the set has fewer pictures."""

    successes: tuple[str, ...]
    failures: tuple[str, ...]


def rank(fits: Sequence[Fit]) -> list[Fit]:
    """Those with objects, by the mean of the two F1, best first; ties: more objects first, then by file name."""
    return sorted((fit for fit in fits if fit.objects), key=lambda fit: (-fit.score, -fit.objects, fit.file))


def choose(ranked: Sequence[Fit], folder: Path) -> Choice:
    """Successes: the best picture with no fewer objects than the median, and the next best that has another colour, or
    the next best if all look alike. Failures likewise from the other end, over all pictures. `folder` has the files.
    """
    median = np.median([fit.objects for fit in ranked]) if ranked else 0
    successes = _two([fit.file for fit in ranked if fit.objects >= median], folder)
    return Choice(successes, _two([fit.file for fit in reversed(ranked) if fit.file not in successes], folder))


def draw_case(case: Case) -> bytes:
    """Picture, truth and prediction beside each other as a JPEG of at most LARGEST_JPEG bytes, missed and false red."""
    content = b""
    for side, quality in product(SIDES, QUALITIES):
        content = to_jpeg(join(draw_panels(case, side), describe(case)), LARGEST_JPEG, [quality])
        if len(content) <= LARGEST_JPEG:
            break
    return content


def draw_cover(cases: Sequence[Case]) -> bytes:
    """Of each case picture and prediction beside each other, as one JPEG; a colour for each object, or for each
    class if there are several.
    """
    panels = []
    for case in cases:
        image, zoom = enlarge(case.path, 2 * COVER_HEIGHT)  # twice, for smooth outlines
        boxes = case.predicted.boxes.xyxy.numpy()
        labels = case.predicted.boxes.cls.tolist()
        several = len(case.predicted.names) > 1
        palette = class_colours(len(case.predicted.names))
        colours = [palette[label] for label in labels] if several else spread_colours(boxes)
        masks = enlarge_masks(case.predicted.masks.rle, zoom)
        drawn = draw_instances(image, masks, *words_of(case.predicted, zoom), colours)
        width = round(COVER_HEIGHT * image.shape[1] / image.shape[0])
        panels += [fit_within(Image.fromarray(panel), width, COVER_HEIGHT) for panel in (image, drawn)]
    return to_jpeg(join(panels), LARGEST_COVER, QUALITIES)


def _two(files: Sequence[str], folder: Path) -> tuple[str, ...]:
    """The first, and the next that has another colour; the second if none has."""
    if len(files) < 2:
        return tuple(files)
    means = (read_image(folder / file).mean(axis=(0, 1)) for file in files)
    first = next(means)
    other = (file for file, mean in zip(files[1:], means, strict=True) if np.abs(mean - first).mean() >= APART)
    return files[0], next(other, files[1])
