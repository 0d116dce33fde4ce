"""Draw instances into a picture: translucent masks with outlines, boxes, captions, and a legend of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from condinst.ops.bitmaps.boundary import shrink
from condinst.ops.bitmaps.rle import Region, Rle, areas, decode_region
from condinst.ops.drawing.captions import Place, fits, free_place, make_caption, write_caption
from condinst.ops.drawing.legend import Entry, add_legend
from condinst.ops.drawing.palette import PALETTE, Colour, class_colours, spread_colours
from condinst.ops.drawing.style import BOXED, CAPTIONED, Style

Picture = NDArray[np.uint8]


def draw_overlay(
    image: Picture,
    masks: Sequence[Rle],
    boxes: NDArray[np.float32],
    labels: Sequence[int],
    scores: Sequence[float],
    names: Mapping[int, str],
    style: Style | None = None,
    tracks: Sequence[int] | None = None,
) -> Picture:
    """Draw K instances into a copy of `image` (H, W, 3) uint8 RGB.

    masks, boxes, labels and scores have one entry for each instance, best first. boxes: (K, 4) xyxy in pixels of
    `image`. names: class name for each label. tracks: the number of each instance's track, or None. An instance then
    has the colour of its track, unless the style asks for the colour of its class, and the number in its caption. The
    result is larger than `image` by the factor `style.scale`. A legend adds height.
    """
    style = style or Style()
    scale = style.scale_for(*image.shape[:2])
    by_class = (len(names) > 1 and tracks is None) if style.color_by is None else style.color_by == "class"
    palette = class_colours(max([*names, *labels], default=0) + 1)
    if by_class:
        colours = [palette[label] for label in labels]
    else:
        colours = spread_colours(boxes) if tracks is None else [PALETTE[track % len(PALETTE)] for track in tracks]
    written = [names.get(label, str(label)) for label in labels]
    if tracks is not None:
        written = [f"#{track} {name}" for track, name in zip(tracks, written, strict=True)]
    captions = [_caption(name, score, style) for name, score in zip(written, scores, strict=True)]
    picture, shown = _draw(_resize(image, scale), masks, boxes * scale, captions, colours, style, scale)
    counts = Counter(labels)
    explained = {label for label, caption in zip(labels, shown, strict=True) if caption and style.labels is not False}
    if not counts or not (counts.keys() - explained if style.legend is None else style.legend):
        return picture
    entries = [
        Entry(names.get(label, str(label)), count, palette[label] if by_class else None)
        for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return add_legend(picture, entries, style.font_size_for(*picture.shape[:2]))


def draw_instances(
    image: Picture,
    masks: Sequence[Rle],
    boxes: NDArray[np.float32],
    captions: Sequence[str],
    colours: Sequence[Colour],
) -> Picture:
    """Draw K instances into a copy of `image` (H, W, 3) uint8 RGB, with given captions and without a legend.

    All sequences have one entry for each instance, best first. boxes: (K, 4) xyxy in pixels. An instance with an empty
    box gets neither box nor caption.
    """
    return _draw(image, masks, boxes, captions, colours, Style(), 1)[0]


def _caption(name: str, score: float, style: Style) -> str:
    parts = [name] * (style.labels is not False) + [f"{score:.2f}"] * style.conf
    return " ".join(parts)


def _draw(
    image: Picture,
    masks: Sequence[Rle],
    boxes: NDArray[np.float32],
    captions: Sequence[str],
    colours: Sequence[Colour],
    style: Style,
    scale: float,
) -> tuple[Picture, list[bool]]:
    """The drawn picture, and whether each instance has a caption. scale: the factor to enlarge `masks` by."""
    picture = image.copy()
    line_width = style.line_width_for(*image.shape[:2])
    for row in np.argsort(-areas(masks), kind="stable") if style.masks else []:  # large masks first, below small ones
        region = _scaled(decode_region(masks[row]), scale, image.shape[:2])
        _draw_mask(picture, region, colours[row], line_width, style.alpha)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    _draw_boxes(draw, boxes, colours, style.boxes, line_width)
    wanted = len(boxes) <= CAPTIONED if style.labels is None else style.labels or style.conf
    if not wanted or not any(captions):
        return np.array(canvas), [False] * len(boxes)
    font_size = style.font_size_for(*image.shape[:2])
    shown = _draw_captions(draw, canvas.size, boxes, captions, colours, font_size, everywhere=bool(style.labels))
    return np.array(canvas), shown


def _draw_mask(picture: Picture, region: Region, colour: Colour, line_width: int, alpha: float) -> None:
    """Blend the colour into the pixels of the mask and draw its edge in solid colour. Changes `picture`."""
    bitmap, x, y = region
    if not bitmap.size:
        return
    area = picture[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
    tint = np.array(colour)
    line_width = max(1, min(line_width, min(bitmap.shape) // 20))  # an outline must not fill a thin mask
    area[bitmap] = np.rint(area[bitmap] * (1 - alpha) + tint * alpha)
    area[bitmap & ~shrink(bitmap, line_width)] = tint


def _draw_boxes(
    draw: ImageDraw.ImageDraw,
    boxes: NDArray[np.float32],
    colours: Sequence[Colour],
    wanted: bool | None,
    line_width: int,
) -> None:
    """Draw all boxes or none. By default, draw them if they are few and each is large compared with its line."""
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    sides = sides[sides > 0]
    if wanted is None:
        wanted = len(boxes) <= BOXED and bool((sides >= 16 * line_width).all())
    for box, colour in zip(boxes.tolist(), colours, strict=True):
        if wanted and box[2] > box[0] and box[3] > box[1]:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour, width=max(1, line_width // 2))


def _draw_captions(
    draw: ImageDraw.ImageDraw,
    canvas: tuple[int, int],
    boxes: NDArray[np.float32],
    texts: Sequence[str],
    colours: Sequence[Colour],
    font_size: int,
    everywhere: bool,
) -> list[bool]:
    """Write the captions that fit, best first. Returns whether each is written. everywhere: on small instances, too."""
    taken: list[Place] = []
    shown = []
    for box, text, colour in zip(boxes.tolist(), texts, colours, strict=True):
        caption = make_caption(draw, text, font_size) if text and box[2] > box[0] and box[3] > box[1] else None
        place = None
        if caption is not None and (everywhere or fits(box, caption)):
            place = free_place(box, caption, canvas, taken)
        if caption is not None and place is not None:
            taken.append(place)
            write_caption(draw, caption, place, colour)
        shown.append(place is not None)
    return shown


def _resize(image: Picture, scale: float) -> Picture:
    if scale == 1:
        return image
    height, width = _scaled_size(image.shape[:2], scale)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scaled(region: Region, scale: float, canvas: Sequence[int]) -> Region:
    """The region enlarged by `scale`, by nearest neighbour. canvas: (height, width) of the enlarged picture."""
    bitmap, x, y = region
    if scale == 1 or not bitmap.size:
        return region
    top, left = int(np.ceil(y * scale - 0.5)), int(np.ceil(x * scale - 0.5))
    bottom = min(int(np.ceil((y + bitmap.shape[0]) * scale - 0.5)), canvas[0])
    right = min(int(np.ceil((x + bitmap.shape[1]) * scale - 0.5)), canvas[1])
    rows = np.floor((np.arange(top, bottom) + 0.5) / scale).astype(np.int64) - y
    columns = np.floor((np.arange(left, right) + 0.5) / scale).astype(np.int64) - x
    return Region(bitmap[rows.clip(0, bitmap.shape[0] - 1)][:, columns.clip(0, bitmap.shape[1] - 1)], left, top)
