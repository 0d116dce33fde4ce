"""Which held-out pictures a card shows, by a rule that anyone can repeat, and the pictures themselves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from card import Fit
from matching import Match, match, truth_of
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from condinst.data.image import read_image
from condinst.data.sample import Sample
from condinst.inference.result import Result
from condinst.ops.draw import PALETTE, draw_instances, spread_colours
from condinst.ops.rle import Region, Rle, decode_region, encode

Picture = NDArray[np.uint8]

WRONG = 0  # the palette's red: a missed object, a false prediction
RIGHT = (1, 3, 2, 6, 8, 9)  # colours that cannot be taken for it
SIDES = (520, 440, 360, 300)  # longer side of a panel in pixels: the largest that fits LARGEST_JPEG
QUALITIES = (90, 80, 70)
LARGEST_JPEG = 150_000  # bytes
COVER_HEIGHT = 320  # pixels
APART = 64  # mean difference of the mean colours, of 255, from which on two pictures are of different kinds
GAP, LINE = 8, 22  # pixels: between panels, for a caption


class Case(NamedTuple):
    """A held-out picture with what is true, what was predicted, and how they fit at IoU 0.5."""

    path: Path
    truth: Result
    predicted: Result
    matched: Match
    fit: Fit


class Choice(NamedTuple):
    """Files that a card shows; fewer where the set has fewer pictures."""

    successes: tuple[str, ...]
    failures: tuple[str, ...]


def judge(sample: Sample, predicted: Result) -> Case:
    """Compare the predictions of one picture with its truth."""
    truth = truth_of(sample, tuple(predicted.names.values()))
    loose, strict = match(predicted, truth, 0.5), match(predicted, truth, 0.75)
    fit = Fit(
        file=sample.path.name,
        objects=len(truth),
        predicted=len(predicted),
        matched50=loose.pairs,
        matched75=strict.pairs,
    )
    return Case(sample.path, truth, predicted, loose, fit)


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
        content = _encode(_join(_panels(case, side), _captions(case)), "JPEG", quality=quality, optimize=True)
        if len(content) <= LARGEST_JPEG:
            break
    return content


def draw_cover(cases: Sequence[Case]) -> bytes:
    """Of each case picture and prediction beside each other, as one PNG; a colour for each object, or for each class
    if there are several.
    """
    panels = []
    for case in cases:
        image, zoom = _enlarged(case.path, 2 * COVER_HEIGHT)  # twice, for smooth outlines
        boxes = case.predicted.boxes.xyxy.numpy()
        kinds = case.predicted.boxes.cls.tolist() if len(case.predicted.names) > 1 else _spread(boxes)
        masks = _larger(case.predicted.masks.rle, zoom)
        drawn = draw_instances(image, masks, *_words(case.predicted, zoom), kinds)
        width = round(COVER_HEIGHT * image.shape[1] / image.shape[0])
        panels += [_fitted(panel, (width, COVER_HEIGHT)) for panel in (image, drawn)]
    return _encode(_join(panels), "PNG", optimize=True)


def _spread(boxes: NDArray[np.float32]) -> list[int]:
    """Places in the palette that tell neighbours apart."""
    return [PALETTE.index(colour) for colour in spread_colours(boxes)]


def _two(files: Sequence[str], folder: Path) -> tuple[str, ...]:
    """The first, and the next that has another colour; the second if none has."""
    if len(files) < 2:
        return tuple(files)
    means = (read_image(folder / file).mean(axis=(0, 1)) for file in files)
    first = next(means)
    other = (file for file, mean in zip(files[1:], means, strict=True) if np.abs(mean - first).mean() >= APART)
    return files[0], next(other, files[1])


def _panels(case: Case, side: int) -> list[Image.Image]:
    image, zoom = _enlarged(case.path, side)
    # an object and its prediction have one colour, taken from the true ones so that neighbours mostly differ
    kinds = [RIGHT[index % len(RIGHT)] for index in _spread(case.truth.boxes.xyxy.numpy())]
    truth = [kind if found >= 0 else WRONG for kind, found in zip(kinds, case.matched.found_by, strict=True)]
    predicted = [kinds[index] if index >= 0 else WRONG for index in case.matched.truth_of]
    drawn = [
        draw_instances(image, _larger(shown.masks.rle, zoom), *_words(shown, zoom), colours)
        for shown, colours in ((case.truth, truth), (case.predicted, predicted))
    ]
    return [_fitted(panel, (side, side)) for panel in (image, *drawn)]


def _captions(case: Case) -> tuple[str, str, str]:
    fit = case.fit
    loose, strict = fit.f1
    return (
        f"{case.path.stem:.24}, {case.truth.orig_shape[1]} by {case.truth.orig_shape[0]} px",
        f"truth: {fit.objects}, {fit.objects - fit.matched50} missed (red)",
        f"predicted: {fit.predicted}, {fit.predicted - fit.matched50} false (red); F1 {loose:.2f} / {strict:.2f}",
    )


def _words(shown: Result, zoom: int) -> tuple[NDArray[np.float32], list[str]]:
    """Boxes and class names to write; with one class there is nothing to tell, and boxes without size get no words."""
    boxes = shown.boxes.xyxy.numpy() * (zoom if len(shown.names) > 1 else 0)
    return boxes, [shown.names[label] for label in shown.boxes.cls.tolist()]


def _enlarged(path: Path, side: int) -> tuple[Picture, int]:
    """The picture, a whole number of times as large, so that it has at least `side` pixels; and that number."""
    image = read_image(path)
    zoom = math.ceil(side / max(image.shape[:2]))
    larger = Image.fromarray(image).resize((image.shape[1] * zoom, image.shape[0] * zoom), Image.Resampling.BICUBIC)
    return np.asarray(larger), zoom


def _larger(masks: Sequence[Rle], zoom: int) -> list[Rle]:
    regions = [(decode_region(rle), rle["size"]) for rle in masks]
    return [
        encode(Region(bitmap.repeat(zoom, 0).repeat(zoom, 1), x * zoom, y * zoom), height * zoom, width * zoom)
        for (bitmap, x, y), (height, width) in regions
    ]


def _fitted(panel: Picture, within: tuple[int, int]) -> Image.Image:
    """As large as `within` (width, height) allows, never enlarged."""
    image = Image.fromarray(panel)
    image.thumbnail(within, Image.Resampling.LANCZOS)
    return image


def _join(panels: Sequence[Image.Image], captions: Sequence[str] = ()) -> Image.Image:
    """Beside each other on white, captions above."""
    top = LINE if captions else 0
    width = sum(panel.width + GAP for panel in panels) - GAP
    canvas = Image.new("RGB", (width, max(panel.height for panel in panels) + top), "white")
    draw, left = ImageDraw.Draw(canvas), 0
    for index, panel in enumerate(panels):
        canvas.paste(panel, (left, top))
        if captions:
            _write(draw, captions[index], (left, 2), panel.width)
        left += panel.width + GAP
    return canvas


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int) -> None:
    """In the largest letters that fit."""
    fonts = [ImageFont.load_default(size=size) for size in range(15, 7, -1)]
    font = next((font for font in fonts if draw.textlength(text, font=font) <= width), fonts[-1])
    draw.text(place, text, fill="black", font=font)


def _encode(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
