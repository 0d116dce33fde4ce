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
GAP, LINE = 8, 22  # pixels: between panels, for a caption


class Case(NamedTuple):
    """A held-out picture with what is true, what was predicted, and how they fit at IoU 0.5."""

    path: Path
    truth: Result
    predicted: Result
    matched: Match
    fit: Fit


class Choice(NamedTuple):
    """What a card shows. cover: the README's picture. Fewer where the set has fewer pictures."""

    successes: tuple[Case, ...]
    failures: tuple[Case, ...]
    cover: Case | None


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


def rank(cases: Sequence[Case]) -> list[Case]:
    """Those with objects, by the mean of the two F1, best first; ties: more objects first, then by file name."""
    known = [case for case in cases if case.fit.objects]
    return sorted(known, key=lambda case: (-case.fit.score, -case.fit.objects, case.fit.file))


def choose(ranked: Sequence[Case]) -> Choice:
    """Successes: the best picture with no fewer objects than the median, and of the best quarter of those the one
    whose mean colour differs most from it. Failures likewise from the other end, over all pictures. Cover: of that
    best quarter the one with most objects.
    """
    median = np.median([case.fit.objects for case in ranked]) if ranked else 0
    eligible = [case for case in ranked if case.fit.objects >= median]
    best = eligible[: max(2, len(eligible) // 4)]
    successes = _two(best)
    worst = [case for case in reversed(ranked) if case.path not in {shown.path for shown in successes}]
    cover = max(best, key=lambda case: case.fit.objects, default=None)
    return Choice(successes, _two(worst[: max(2, len(ranked) // 4)]), cover)


def draw_case(case: Case) -> bytes:
    """Picture, truth and prediction beside each other as a JPEG of at most LARGEST_JPEG bytes, missed and false red."""
    content = b""
    for side, quality in product(SIDES, QUALITIES):
        content = _encode(_join(_panels(case, side), _captions(case)), "JPEG", quality=quality, optimize=True)
        if len(content) <= LARGEST_JPEG:
            break
    return content


def draw_cover(case: Case) -> bytes:
    """Picture and prediction beside each other, a colour for each object or class, as a PNG of 256 colours."""
    image, zoom = _enlarged(case.path, SIDES[0])
    kinds = case.predicted.boxes.cls.tolist() if len(case.predicted.names) > 1 else None
    boxes = case.predicted.boxes.xyxy.numpy() * zoom
    colours = kinds or [PALETTE.index(colour) for colour in spread_colours(boxes)]
    drawn = draw_instances(image, _larger(case.predicted.masks.rle, zoom), *_words(case.predicted, zoom), colours)
    joined = _join([_fitted(panel, SIDES[0]) for panel in (image, drawn)], None)
    return _encode(joined.quantize(256), "PNG", optimize=True)


def _two(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The first, and the one whose mean colour is furthest from its."""
    if len(cases) < 2:
        return tuple(cases)
    means = [read_image(case.path).mean(axis=(0, 1)) for case in cases]
    distances = [float(np.abs(mean - means[0]).sum()) for mean in means[1:]]
    return cases[0], cases[1 + int(np.argmax(distances))]


def _panels(case: Case, side: int) -> list[Image.Image]:
    image, zoom = _enlarged(case.path, side)
    # an object and its prediction have one colour, taken from the true ones so that neighbours mostly differ
    spread = [PALETTE.index(colour) for colour in spread_colours(case.truth.boxes.xyxy.numpy())]
    kinds = [RIGHT[index % len(RIGHT)] for index in spread]
    truth = [kind if found >= 0 else WRONG for kind, found in zip(kinds, case.matched.found_by, strict=True)]
    predicted = [kinds[index] if index >= 0 else WRONG for index in case.matched.truth_of]
    drawn = [
        draw_instances(image, _larger(shown.masks.rle, zoom), *_words(shown, zoom), colours)
        for shown, colours in ((case.truth, truth), (case.predicted, predicted))
    ]
    return [_fitted(panel, side) for panel in (image, *drawn)]


def _captions(case: Case) -> tuple[str, str, str]:
    fit = case.fit
    loose, strict = fit.f1
    return (
        f"{case.path.stem:.24}, {case.truth.orig_shape[1]}×{case.truth.orig_shape[0]} px",
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


def _fitted(panel: Picture, side: int) -> Image.Image:
    image = Image.fromarray(panel)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _join(panels: Sequence[Image.Image], captions: Sequence[str] | None) -> Image.Image:
    """Beside each other on white, captions above."""
    top = LINE if captions else 0
    width, height = panels[0].size
    canvas = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + top), "white")
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        canvas.paste(panel, (index * (width + GAP), top))
        if captions:
            _write(draw, captions[index], (index * (width + GAP), 2), width)
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
