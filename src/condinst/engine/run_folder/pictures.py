"""Pictures of a run: its labels, what the network is fed, what it answers on held-out pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from condinst.data.batch import Batch
from condinst.data.sample import AnnotatedData, Array8, Box, Instance, Sample
from condinst.engine.run_folder.nonfinite import unnormalise
from condinst.evaluation.cases import describe, draw_panels, predict_case
from condinst.evaluation.evaluate import Predicts
from condinst.ops.bitmaps.rle import Region, encode
from condinst.ops.drawing.chart import Bar, bars, below, scatter
from condinst.ops.drawing.draw import draw_instances
from condinst.ops.drawing.page import Part, drawing, picture
from condinst.ops.drawing.palette import class_colours, spread_colours
from condinst.ops.drawing.sheet import fit_within, join, stack, to_jpeg
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import SHOWN_SCORE
from condinst.structures import Truth

LARGEST_JPEG = 1_500_000  # bytes
PANEL, WIDTH = 420, 1700  # pixels: of a panel's longer side, of a row of them
MOST_PICTURES = 16  # of a batch
MOST_CLASSES = 40  # with a bar of their own
MOST_DOTS = 3000


def draw_batch(batch: Batch, settings: ModelConfig) -> bytes:
    """A JPEG: the first pictures of the batch as the network sees them, with their truth at the masks' own stride.

    Objects have a colour each, or one by class where there are several; the name of one without a mask ends in "box".
    """
    panels = []
    for number, truth in enumerate(batch.truths[:MOST_PICTURES]):
        image = unnormalise(batch, number, settings)
        panels.append(fit_within(Image.fromarray(_draw_truth(image, truth, settings)), PANEL, PANEL))
    return to_jpeg(stack([join(row) for row in _rows(panels)]), LARGEST_JPEG)


def draw_labels(data: AnnotatedData) -> str:
    """An SVG: objects of each class, their sizes, and where in the picture they lie. Crowds are left out."""
    things = [(one, sample) for sample in data.samples for one in sample.instances if not one.crowd]
    counts = Counter(one.label for one, _ in things)
    most = [label for label, _ in counts.most_common(MOST_CLASSES)]
    named = [Bar(data.classes[label], {"objects": counts[label]}) for label in most]
    more = len(data.classes) - len(most)
    title = f"Objects by class: {len(things):,} in {len(data.samples):,} pictures"
    parts = [bars(title + (f"; {more} more classes" if more else ""), "", named)]
    if things:
        parts += [_draw_sizes([one.box for one, _ in things]), _draw_places(things)]
    return below(parts)


def draw_predictions(data: AnnotatedData, predictor: Predicts, count: int = 6, score: float = SHOWN_SCORE) -> bytes:
    """A JPEG: `count` pictures spread evenly over the data set, each beside its truth and what is predicted from
    `score` on; missed objects and false predictions are red.
    """
    places = np.unique(np.linspace(0, len(data.samples) - 1, min(count, len(data.samples))).round().astype(int))
    cases = (predict_case(data.samples[place], predictor, data, score) for place in places)
    return to_jpeg(stack([join(draw_panels(case, PANEL), describe(case)) for case in cases]), LARGEST_JPEG)


def show_training(batch: Path, labels: Path) -> list[Part]:
    """Return the pictures of the training data for the report, if their files are in the folder."""
    parts: list[Part] = []
    with suppress(OSError, ValueError):
        seen = "The first pictures as the network receives them, with their objects"
        parts.append(picture(batch.read_bytes(), seen, f"{seen}."))
    with suppress(OSError, UnicodeDecodeError):
        parts.append(drawing(labels.read_text(encoding="utf-8"), "The annotated objects of the training data."))
    return parts


def _draw_truth(image: Array8, truth: Truth, settings: ModelConfig) -> Array8:
    """The picture with its objects drawn in, the masks' own pixels enlarged to what they stand for."""
    height, width = image.shape[:2]
    stride, several = settings.truth_stride, len(settings.classes) > 1
    masks = [encode(region, height, width) for region in _regions(truth, stride, height, width)]
    labels, boxes = truth.labels.tolist(), truth.boxes.cpu().numpy()
    names = [
        ((settings.classes[label] if several else "") + ("" if has_mask else " box")).strip()
        for label, has_mask in zip(labels, truth.has_mask.tolist(), strict=True)
    ]
    captioned = np.array([[bool(name)] for name in names]).reshape(-1, 1)  # boxes without size get no caption
    palette = class_colours(len(settings.classes))
    colours = [palette[label] for label in labels] if several else spread_colours(boxes)
    return draw_instances(image, masks, boxes * captioned, names, colours)


def _regions(truth: Truth, stride: int, height: int, width: int) -> list[Region]:
    """Each packed mask, its pixels enlarged to squares of `stride`, cut to the picture."""
    regions, start = [], 0
    pixels = truth.mask_pixels.cpu().numpy()
    for x, y, columns, rows in truth.mask_places.tolist():
        part = pixels[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        large = part.repeat(stride, 0).repeat(stride, 1)[: height - y * stride, : width - x * stride]
        regions.append(Region(large, x * stride, y * stride))
    return regions


def _rows(panels: Sequence[Image.Image]) -> list[list[Image.Image]]:
    """The panels in order, as many in a row as the width takes."""
    rows: list[list[Image.Image]] = [[]]
    for panel in panels:
        if rows[-1] and sum(one.width for one in rows[-1]) + panel.width > WIDTH:
            rows.append([])
        rows[-1].append(panel)
    return rows


def _draw_sizes(boxes: Sequence[Box]) -> str:
    """Draw the number of objects in each octave of size."""
    sides = np.sqrt([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes])
    octaves = Counter(np.floor(np.log2(sides.clip(1))).astype(int).tolist())
    span = range(min(octaves), max(octaves) + 1)
    rows = [Bar(f"{2**octave}–{2 ** (octave + 1)} px", {"objects": octaves[octave]}) for octave in span]
    return bars(f"Sizes: root of the box area, median {np.median(sides):.0f} px", "", rows)


def _draw_places(things: Sequence[tuple[Instance, Sample]]) -> str:
    """Draw the centres of the objects, as fractions of their picture's width and height."""
    step = -(-len(things) // MOST_DOTS)
    points = [
        ((one.box[0] + one.box[2]) / 2 / sample.width, (one.box[1] + one.box[3]) / 2 / sample.height)
        for one, sample in things[::step]
    ]
    return scatter("Centres of boxes", "of the width, from the left", "of the height, from the top", points)
