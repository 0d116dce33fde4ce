"""Makes a training picture from several pictures: a mosaic of four, or objects copied from another picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Array8, Box
from condinst.data.shown import Shown, centroid_of, move_shown, show_box, shown_box, tight_box
from condinst.ops.bitmaps.rle import Region, tighten

Colour = tuple[int, int, int]  # RGB
BACKGROUND: Colour = (124, 116, 104)  # about the mean of photographs; batches are padded with about the same colour
LEAST_MASK = 0.1  # share of a mask: an object is dropped if a cut leaves less
LEAST_PIXELS = 4  # pixels: an object is dropped if a cut leaves fewer
LEAST_BOX = 0.5  # share of a box without a mask: an object is dropped if pasted objects leave less


class Scene(NamedTuple):
    """A picture (H, W, 3) uint8 RGB, its objects, and the files of the picture."""

    image: Array8
    things: tuple[Shown, ...]
    paths: tuple[Path, ...]


def make_mosaic(
    scenes: Sequence[Scene], height: int, width: int, rng: np.random.Generator, fill: Colour = BACKGROUND
) -> Scene:
    """Put four scenes around a random point near the middle of a canvas of (height, width) pixels and colour `fill`.

    Each scene keeps its scale. A scene larger than its quarter is cut at random. A smaller scene touches the point.
    Objects are dropped if less than LEAST_MASK of their mask is left.
    """
    centre_y, centre_x = (int(rng.integers(side // 4, side - side // 4 + 1)) for side in (height, width))
    canvas = np.full((height, width, 3), fill, dtype=np.uint8)
    things: list[Shown] = []
    for number, scene in enumerate(scenes):
        lower, right = divmod(number, 2)
        rows, top = _share(scene.image.shape[0], height - centre_y if lower else centre_y, rng)
        columns, left = _share(scene.image.shape[1], width - centre_x if right else centre_x, rng)
        y, x = centre_y if lower else centre_y - rows, centre_x if right else centre_x - columns
        canvas[y : y + rows, x : x + columns] = scene.image[top : top + rows, left : left + columns]
        seen = (_cut(move_shown(thing, -left, -top), rows, columns) for thing in scene.things)
        things += [move_shown(thing, x, y) for thing in seen if thing is not None]
    return Scene(canvas, tuple(things), tuple(path for scene in scenes for path in scene.paths))


def paste_objects(scene: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """Paste random objects of `other` in front of `scene`: simple copy-paste (arXiv 2012.07177).

    Objects without a mask are never pasted. Pasted objects cut the masks behind them. An object is dropped if less than
    LEAST_MASK of its mask is left, or less than LEAST_BOX of its box if the object has no mask.
    """
    height, width = scene.image.shape[:2]
    x, y = (
        int(rng.integers(min(mine - its, 0), max(mine - its, 0) + 1))
        for mine, its in ((width, other.image.shape[1]), (height, other.image.shape[0]))
    )
    moved = (_cut(move_shown(thing, x, y), height, width) for thing in other.things if thing.has_mask)
    seen = [thing for thing in moved if thing is not None]
    if not seen:
        return scene
    drawn = rng.permutation(len(seen))[: rng.integers(1, len(seen) + 1)]
    pasted = [seen[row] for row in sorted(drawn)]
    cover = np.zeros((height, width), dtype=np.bool_)
    for mask, left, top in (thing.region for thing in pasted):
        cover[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    behind = (_hide(thing, cover) for thing in scene.things)
    kept = [thing for thing in behind if thing is not None]
    image = scene.image.copy()
    rows, columns = cover.nonzero()
    image[rows, columns] = other.image[rows - y, columns - x]
    return Scene(image, (*kept, *pasted), (*scene.paths, *other.paths))


def _share(side: int, room: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return how many pixels of a side fit, and the first of these pixels."""
    return min(side, room), int(rng.integers(max(side - room, 0) + 1))


def _cut(thing: Shown, height: int, width: int) -> Shown | None:
    """Return the part of the object in an image of (height, width) pixels, or None if the part is too small."""
    mask, x, y = thing.region
    rows, columns = mask.shape
    if not thing.has_mask:
        seen = show_box(thing.label, thing.box, height, width)
        return seen if seen and _area(seen.box) >= LEAST_MASK * _area(thing.box) else None
    if x >= 0 and y >= 0 and x + columns <= width and y + rows <= height:
        return thing._replace(box=shown_box(thing.box, thing.region, height, width))
    left, top = max(-x, 0), max(-y, 0)
    part = mask[top : max(height - y, 0), left : max(width - x, 0)]
    return _rest(thing, Region(part, x + left, y + top))


def _hide(thing: Shown, cover: NDArray[np.bool_]) -> Shown | None:
    """Return the part of the object that `cover` (H, W) does not hide, or None if the part is too small."""
    mask, x, y = thing.region
    hidden = cover[y : y + mask.shape[0], x : x + mask.shape[1]]
    if not mask[hidden].any():
        return thing
    left = Region(mask & ~hidden, x, y)
    if thing.has_mask:
        return _rest(thing, left)
    tight = tighten(left)
    if tight is None or np.count_nonzero(left.bitmap) < LEAST_BOX * mask.size:
        return None
    x0, y0, x1, y1 = tight_box(tight)
    box = thing.box
    seen = (max(box[0], x0), max(box[1], y0), min(box[2], x1), min(box[3], y1))
    return show_box(thing.label, seen, *cover.shape)


def _rest(thing: Shown, region: Region) -> Shown | None:
    """Return the object with the rest of its mask, or None if the rest is too small."""
    tight = tighten(region)
    least = max(LEAST_MASK * np.count_nonzero(thing.region.bitmap), LEAST_PIXELS)
    if tight is None or np.count_nonzero(tight.bitmap) < least:
        return None
    return thing._replace(box=tight_box(tight), region=tight, centroid=centroid_of(tight))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
