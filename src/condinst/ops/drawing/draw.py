"""Instances drawn into a picture: a translucent fill, an outline, a box and a caption where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from condinst.ops.boundary import shrink
from condinst.ops.rle import Region, Rle, areas, decode_region

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Far apart in hue or lightness, none grey, so that they stand out from photographs as well as from stained tissue.
PALETTE: tuple[Colour, ...] = (
    (255, 56, 86),
    (0, 176, 255),
    (255, 196, 0),
    (0, 200, 120),
    (190, 80, 255),
    (255, 122, 0),
    (0, 224, 224),
    (255, 100, 200),
    (150, 220, 0),
    (70, 100, 255),
    (214, 150, 110),
    (170, 255, 190),
)
FILL = 0.42  # how much of the colour covers the picture
CROWDED = 60  # instances from which on captions and boxes would hide the picture


def draw_instances(
    image: Picture,
    masks: Sequence[Rle],
    boxes: NDArray[np.float32],
    captions: Sequence[str],
    kinds: Sequence[int] | None,
) -> Picture:
    """A copy of `image` (H, W, 3) uint8 RGB with K instances drawn in, best first in all sequences.

    boxes: (K, 4) xyxy pixels. kinds: what decides the colour (a class each), or None for a colour per instance,
    chosen so that neighbours differ. Captions and boxes are left out where instances are small or many.
    """
    height, width = image.shape[:2]
    thickness = max(1, round(min(height, width) / 320))
    colours = [PALETTE[kind % len(PALETTE)] for kind in kinds] if kinds is not None else spread_colours(boxes)
    picture = image.copy()
    for row in np.argsort(-areas(masks), kind="stable"):  # large ones first, so that they do not cover small ones
        _draw_mask(picture, decode_region(masks[row]), colours[row], thickness)
    if len(masks) >= CROWDED:
        return picture
    return _draw_captions(picture, boxes, captions, colours, thickness)


def spread_colours(boxes: NDArray[np.float32]) -> list[Colour]:
    """A colour for each box (K, 4) that none of the boxes around it has, while the palette lasts."""
    count = len(boxes)
    chosen = np.zeros(count, dtype=np.int64)
    reach = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    used = np.zeros(len(PALETTE))
    for row in range(count):
        gap = np.abs(centres[:row] - centres[row]).max(axis=1, initial=0) - reach[:row] - reach[row]
        near = np.bincount(chosen[:row][gap < 0.5 * reach[row]], minlength=len(PALETTE))
        chosen[row] = np.lexsort((np.arange(len(PALETTE)), used, near))[0]
        used[chosen[row]] += 1
    return [PALETTE[index] for index in chosen]


def _draw_mask(picture: Picture, region: Region, colour: Colour, thickness: int) -> None:
    """Blend the colour into the mask's pixels and make those along its edge solid; changes `picture`."""
    bitmap, x, y = region
    if not bitmap.size:
        return
    area = picture[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
    tint = np.array(colour)
    thickness = max(1, min(thickness, min(bitmap.shape) // 20))  # an outline must not fill what is thin
    area[bitmap] = np.rint(area[bitmap] * (1 - FILL) + tint * FILL)
    area[bitmap & ~shrink(bitmap, thickness)] = tint


def _draw_captions(
    picture: Picture, boxes: NDArray[np.float32], captions: Sequence[str], colours: Sequence[Colour], thickness: int
) -> Picture:
    """Boxes with their captions, best first; a caption that finds no free place, or a small box, is left out."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(11, round(min(canvas.size) / 42)))
    taken: list[tuple[float, float, float, float]] = []
    for box, caption, colour in zip(boxes.tolist(), captions, colours, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), caption, font=font)
        pad = max(2, round((bottom - top) / 3))
        size = (right - left + 2 * pad, bottom - top + 2 * pad)
        if min(box[2] - box[0], box[3] - box[1]) < 2 * size[1] or box[2] - box[0] < 0.7 * size[0]:
            continue
        draw.rectangle(box, outline=colour, width=max(1, thickness // 2))
        place = _free_place(box, size, canvas.size, taken)
        if place is None:
            continue
        taken.append((*place, place[0] + size[0], place[1] + size[1]))
        draw.rounded_rectangle(taken[-1], radius=pad, fill=colour)
        ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 125 else (255, 255, 255)
        draw.text((place[0] + pad - left, place[1] + pad - top), caption, fill=ink, font=font)
    return np.array(canvas)


def _free_place(
    box: Sequence[float],
    size: tuple[float, float],
    canvas: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Top-left for a caption of `size` above, inside or below the box, in the picture and over no other; or None."""
    for x, y in ((box[0], box[1] - size[1]), (box[0], box[1]), (box[2] - size[0], box[3] - size[1]), (box[0], box[3])):
        x = min(max(x, 0), canvas[0] - size[0])
        if x < 0 or y < 0 or y + size[1] > canvas[1]:
            continue
        if all(x >= b[2] or x + size[0] <= b[0] or y >= b[3] or y + size[1] <= b[1] for b in taken):
            return x, y
    return None
