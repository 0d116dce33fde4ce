"""Films with known tracks: outlines of annotated objects move, cover each other, leave the picture and return.

The detections are the visible parts of the objects with the mistakes of a detector: an object is missed, faint, moved
by some pixels, too large or too small, and some detections show nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, Rle, crop, decode_region, draw_polygons, encode, tighten

SIZE = (240, 320)  # rows and columns of a film
FRAMES = 90
BEYOND = 0.15  # of the picture's sides: how far outside an object turns back
LEAST = 0.1  # of an object that is visible, for truth to count it
MISSED = 0.08  # of the objects, besides those that are missed for some frames
FALSE = 0.7  # false detections in a frame
Bitmap = NDArray[np.bool_]


class Kind(NamedTuple):
    """A kind of film. Lengths in pixels, speeds in pixels a frame.

    data: the data set of the outlines, "" for discs. sides: the longer side of an object. turn: the standard deviation
    of the change of a speed in a frame. pan, shake: the speed of the camera, and the standard deviation of its place.
    bounce: objects turn back at the picture's edge. model: the network that detects, in place of made-up mistakes.
    """

    data: str
    objects: int
    sides: tuple[float, float]
    speeds: tuple[float, float]
    turn: float = 0.1
    pan: float = 0.0
    shake: float = 0.0
    bounce: bool = False
    model: str = ""


KINDS = {
    "nuclei": Kind("nuclei", 30, (14, 30), (0.3, 2)),
    "mushrooms, moving camera": Kind("mushrooms", 25, (24, 48), (0, 0.1), turn=0.0, pan=2.0, shake=2.0),
    "people": Kind("people", 12, (50, 100), (1, 4)),
    "balls that bounce": Kind("", 30, (9, 9), (0.5, 3), turn=0.0, bounce=True),
    "few frames a second": Kind("nuclei", 15, (14, 30), (3, 10), turn=0.5),
    "nuclei, found by the model": Kind("nuclei", 25, (18, 34), (0.5, 3), model="nuclei"),
}


class Cutout(NamedTuple):
    """An object: its bitmap (h, w), and its grey values (h, w) if its picture was read."""

    bitmap: Bitmap
    greys: NDArray[np.uint8] | None


class Clip(NamedTuple):
    """A film. truth: for each frame, the visible mask of each object. found: the detections of each frame."""

    truth: list[dict[int, Rle]]
    found: list[Result]


def make_clip(kind: Kind, datasets: Path, seed: int, frames: int = FRAMES, split: str = "val") -> Clip:
    """The film of this number."""
    rng = np.random.default_rng(seed)
    shapes = cutouts(kind, datasets, split, rng)
    places = paths(kind, frames, rng)
    scenes = [scene(shapes, spots) for spots in places]
    truth = [{number: encode(region, *SIZE) for number, (region, _) in seen.items()} for seen in scenes]
    if kind.model:
        return Clip(truth, found_by_model(kind.model, shapes, places, rng))
    away = bursts(frames, len(shapes), rng)
    return Clip(truth, [mistaken(seen, shapes, away[at], rng) for at, seen in enumerate(scenes)])


def cutouts(kind: Kind, datasets: Path, split: str, rng: np.random.Generator) -> list[Cutout]:
    """Objects of the data set, each scaled to a side of the kind."""
    sides = rng.uniform(*kind.sides, kind.objects)
    if not kind.data:
        rows, columns = np.mgrid[-4:5, -4:5]
        return [Cutout(rows**2 + columns**2 <= 16, None)] * kind.objects
    folder = datasets / kind.data
    known = json.loads((folder / f"{split}.json").read_text())
    pictures = {one["id"]: one for one in known["images"]}
    whole = [one for one in known["annotations"] if not one.get("iscrowd") and min(one["bbox"][2:]) >= 12]
    chosen = [whole[index] for index in rng.permutation(len(whole))[: kind.objects]]
    return [
        cut(one, pictures[one["image_id"]], folder, side, bool(kind.model))
        for one, side in zip(chosen, sides, strict=True)
    ]


def cut(record: dict[str, Any], picture: dict[str, Any], folder: Path, side: float, greys: bool) -> Cutout:
    """An annotated object, scaled."""
    drawn = record["segmentation"]
    if isinstance(drawn, list):
        parts = [np.array(part, float).reshape(-1, 2) for part in drawn]
        drawn = draw_polygons(parts, picture["height"], picture["width"])
    region = decode_region(drawn)
    height, width = region.bitmap.shape
    scale = side / max(height, width)
    new = (max(round(width * scale), 3), max(round(height * scale), 3))
    bitmap = np.asarray(Image.fromarray(region.bitmap).resize(new, Image.Resampling.NEAREST))
    if not greys:
        return Cutout(bitmap, None)
    with Image.open(folder / "images" / picture["file_name"]) as whole:
        part = whole.convert("L").crop((region.x, region.y, region.x + width, region.y + height))
    return Cutout(bitmap, np.asarray(part.resize(new, Image.Resampling.BILINEAR)))


def paths(kind: Kind, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(frames, objects, 2): x and y of the middle of each object in the picture, in whole pixels."""
    ends = np.array(SIZE[::-1], float)
    far = 5.0 if kind.bounce else -BEYOND * ends
    places = rng.uniform(far, ends - far, (kind.objects, 2))
    angles, speeds = rng.uniform(0, 2 * np.pi, kind.objects), rng.uniform(*kind.speeds, kind.objects)
    steps = speeds[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    camera, found = np.zeros(2), []
    toward = rng.uniform(0, 2 * np.pi)
    for _ in range(frames):
        steps = steps + rng.normal(0, kind.turn, steps.shape)
        places = places + steps
        turned = ((places < far) & (steps < 0)) | ((places > ends - far) & (steps > 0))
        steps = np.where(turned, -steps, steps)
        toward += rng.normal(0, 0.1)
        camera = camera + kind.pan * np.array([np.cos(toward), np.sin(toward)])
        found.append(places + camera + rng.normal(0, kind.shake, 2))
    whole: NDArray[np.int64] = np.rint(np.array(found)).astype(np.int64)
    return whole


def scene(shapes: list[Cutout], spots: NDArray[np.int64]) -> dict[int, tuple[Region, float]]:
    """Visible part and covered share of each object that is visible; the first objects are nearest."""
    free = np.ones(SIZE, bool)
    found = {}
    for number, (shape, spot) in enumerate(zip(shapes, spots, strict=True)):
        region = inside(placed(shape.bitmap, spot))
        if region is None:
            continue
        visible = region.bitmap & free[extent(region)]
        free[extent(region)] &= ~region.bitmap
        if visible.sum() >= max(LEAST * shape.bitmap.sum(), 12):
            found[number] = Region(visible, region.x, region.y), 1 - visible.sum() / shape.bitmap.sum()
    return found


def bursts(frames: int, objects: int, rng: np.random.Generator) -> Bitmap:
    """(frames, objects): whether the detector loses the object for two to eight frames."""
    away = np.zeros((frames, objects), bool)
    for number in range(objects):
        for start in rng.integers(5, frames, rng.poisson(frames / 60)):
            away[start : start + rng.integers(2, 9), number] = True
    return away


def mistaken(
    seen: dict[int, tuple[Region, float]], shapes: list[Cutout], away: Bitmap, rng: np.random.Generator
) -> Result:
    """What a detector finds of a scene."""
    found: list[tuple[Region, float]] = []
    for number, (region, covered) in seen.items():
        if away[number] or rng.random() < MISSED + 0.3 * covered:
            continue
        faint = 0.35 * (rng.random() < 0.1)
        found.append((moved(region, rng), 0.9 - 0.55 * covered - faint + rng.normal(0, 0.06)))
    for _ in range(rng.poisson(FALSE)):
        spot = rng.integers(0, SIZE[::-1])
        score = rng.uniform(0.5, 0.8) if rng.random() < 0.25 else rng.uniform(0.1, 0.5)
        found.append((placed(shapes[rng.integers(len(shapes))].bitmap, spot), score))
    order = rng.permutation(len(found))
    kept = [(inside(found[index][0]), found[index][1]) for index in order]
    return result_of([(region, float(np.clip(score, 0.05, 0.99))) for region, score in kept if region is not None])


def moved(region: Region, rng: np.random.Generator) -> Region:
    """A region with its edge moved by a pixel at most, at a place that is wrong by 3 % of its side."""
    bitmap = np.pad(region.bitmap, 1)
    change = rng.integers(3)
    if change == 1:
        bitmap = ndimage.binary_dilation(bitmap)
    elif change == 2 and min(region.bitmap.shape) > 6:
        bitmap = ndimage.binary_erosion(bitmap)
    wrong = np.rint(rng.normal(0, 0.03 * max(region.bitmap.shape), 2)).astype(int)
    return Region(bitmap, region.x - 1 + int(wrong[0]), region.y - 1 + int(wrong[1]))


def found_by_model(
    model: str, shapes: list[Cutout], places: NDArray[np.int64], rng: np.random.Generator
) -> list[Result]:
    """What a network finds of the same film in grey, on a dark and noisy background."""
    from condinst import Predictor

    predictor = Predictor(model, conf=0.1, device="cpu")
    found = []
    for spots in places:
        picture = np.full(SIZE, 8.0)
        for shape, spot in zip(reversed(shapes), reversed(spots.tolist()), strict=True):
            whole = placed(shape.bitmap, spot)
            region = crop(whole, 0, 0, SIZE[1], SIZE[0])
            if region.bitmap.size and shape.greys is not None:
                y, x = region.y - whole.y, region.x - whole.x
                greys = shape.greys[y : y + region.bitmap.shape[0], x : x + region.bitmap.shape[1]]
                picture[extent(region)][region.bitmap] = greys[region.bitmap]
        noisy = np.clip(ndimage.gaussian_filter(picture, 0.7) + rng.normal(0, 1, SIZE), 0, 255).astype(np.uint8)
        found.append(predictor(np.repeat(noisy[:, :, None], 3, axis=2)).cpu())
    return found


def placed(bitmap: Bitmap, spot: NDArray[np.int64] | list[int]) -> Region:
    """The bitmap with its middle at a place, x and y."""
    return Region(bitmap, int(spot[0]) - bitmap.shape[1] // 2, int(spot[1]) - bitmap.shape[0] // 2)


def inside(region: Region) -> Region | None:
    """The part in the picture, None if there is none."""
    return tighten(crop(region, 0, 0, SIZE[1], SIZE[0]))


def extent(region: Region) -> tuple[slice, slice]:
    """Its rows and its columns."""
    height, width = region.bitmap.shape
    return slice(region.y, region.y + height), slice(region.x, region.x + width)


def result_of(found: list[tuple[Region, float]]) -> Result:
    """Regions with scores as the result of a prediction."""
    boxes = [(one.x, one.y, one.x + one.bitmap.shape[1], one.y + one.bitmap.shape[0]) for one, _ in found]
    shown = Boxes(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for _, score in found], dtype=torch.float32),
        torch.zeros(len(found), dtype=torch.int64),
        SIZE,
    )
    return Result(shown, Masks(tuple(encode(one, *SIZE) for one, _ in found), SIZE), {0: "object"}, SIZE)
