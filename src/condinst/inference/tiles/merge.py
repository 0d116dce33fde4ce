"""Join the instances of tiles, by their masks.

An object on the border of two tiles is found twice in the band that both tiles hold: whole in one and cut in the other,
whole in both, or cut in both. The masks decide which finds are one object: the IoU inside the band, and for cut finds
also the IoS, the intersection over the smaller area inside the band.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.inference.tiles.plan import Window
from condinst.ops.bitmaps.rle import Region, crop

SAME = 0.5  # IoU, or for a cut find IoS, from which two finds are one object


class Find(NamedTuple):
    """An instance of one tile. region: its mask, box: xyxy, both in pixels of the picture. score: in [0, 1]."""

    region: Region
    box: tuple[float, float, float, float]
    score: float
    label: int


@dataclass(eq=False)
class _Piece:
    """A find, its window, whether an inner border of the window cuts it, and what is known of it.

    part_of: the piece that it is joined with, itself at first (a union-find forest). dropped: whether another tile has
    the same object whole.
    """

    find: Find
    window: Window
    cut: bool
    dropped: bool = False
    part_of: _Piece = field(init=False)

    def __post_init__(self) -> None:
        self.part_of = self

    def root(self) -> _Piece:
        """The piece that stands for all that are joined with this one."""
        while self.part_of is not self.part_of.part_of:
            self.part_of = self.part_of.part_of
        return self.part_of


class _Match(NamedTuple):
    iou: float
    mine: _Piece
    other: _Piece


class Merger:
    """Takes the finds of one window after the other, row by row, and yields the instances of the whole picture.

    shape: (height, width) of the picture. margin: pixels; a mask that ends this close to an inner border of its window
    is cut by the border. Only finds that a later window may see again are kept.
    """

    def __init__(self, shape: tuple[int, int], margin: int) -> None:
        self.shape, self.margin = shape, margin
        self.open: dict[Window, list[_Piece]] = {}

    def add(self, window: Window, finds: Sequence[Find]) -> None:
        """Take the finds of a window. An empty mask is left out."""
        pieces = [_Piece(find, window, self._is_cut(find.region, window)) for find in finds if find.region.bitmap.any()]
        neighbours = [piece for other, seen in self.open.items() if other.common(window) for piece in seen]
        _connect(list(_matches(pieces, neighbours)))
        self.open[window] = pieces

    def close(self, bottom: int | None = None) -> Iterator[Find]:
        """Yield the instances that no window from row `bottom` of the picture on can see; None: all instances."""
        groups: dict[int, list[_Piece]] = {}
        for piece in itertools.chain.from_iterable(self.open.values()):
            groups.setdefault(id(piece.root()), []).append(piece)
        self.open = {}
        for group in groups.values():
            if bottom is not None and any(piece.window.bottom > bottom for piece in group):
                for piece in group:
                    self.open.setdefault(piece.window, []).append(piece)
            else:
                yield from _join([piece.find for piece in group if not piece.dropped])

    def _is_cut(self, region: Region, window: Window) -> bool:
        height, width = region.bitmap.shape
        return (
            (window.x > 0 and region.x < window.x + self.margin)
            or (window.y > 0 and region.y < window.y + self.margin)
            or (window.right < self.shape[1] and region.x + width > window.right - self.margin)
            or (window.bottom < self.shape[0] and region.y + height > window.bottom - self.margin)
        )


def _matches(pieces: Sequence[_Piece], others: Sequence[_Piece]) -> Iterator[_Match]:
    """The pairs of pieces of different windows that are one object."""
    if not pieces or not others:
        return
    mine, theirs = _corners(pieces), _corners(others)
    low = np.maximum(mine[:, None, :2], theirs[None, :, :2])
    high = np.minimum(mine[:, None, 2:], theirs[None, :, 2:])
    for row, column in np.argwhere((low < high).all(axis=2)):
        one, other = pieces[row], others[column]
        if one.find.label != other.find.label:
            continue
        iou, ios = _overlap(one, other)
        if iou >= SAME or ((one.cut or other.cut) and ios >= SAME):
            yield _Match(iou, one, other)


def _corners(pieces: Sequence[_Piece]) -> NDArray[np.int64]:
    """The rectangle (x0, y0, x1, y1) of each mask: (K, 4)."""
    places = [(region.x, region.y, *region.bitmap.shape) for region in (piece.find.region for piece in pieces)]
    corners: NDArray[np.int64] = np.array([(x, y, x + width, y + height) for x, y, height, width in places])
    return corners


def _overlap(one: _Piece, other: _Piece) -> tuple[float, float]:
    """IoU and IoS of two masks inside the band that both windows hold."""
    band = one.window.common(other.window)
    if band is None:
        return 0.0, 0.0
    first, second = _inside(one.find.region, band), _inside(other.find.region, band)
    areas = int(first.bitmap.sum()), int(second.bitmap.sum())
    shared = _intersection(first, second)
    return shared / max(areas[0] + areas[1] - shared, 1), shared / max(min(areas), 1)


def _inside(region: Region, window: Window) -> Region:
    """The part of a region inside a window."""
    return crop(region, window.x, window.y, window.right, window.bottom)


def _intersection(one: Region, other: Region) -> int:
    """The number of pixels that two regions share."""
    height, width = other.bitmap.shape
    mine = _inside(one, Window(other.x, other.y, width, height)).bitmap
    rows, columns = mine.shape
    top, left = max(one.y - other.y, 0), max(one.x - other.x, 0)
    return int((mine & other.bitmap[top : top + rows, left : left + columns]).sum())


def _connect(matches: list[_Match]) -> None:
    """Drop finds that another tile has whole, and join cut finds. Each cut find is joined with one of a window at most.

    The best IoU decides first.
    """
    joined: set[tuple[int, Window]] = set()
    for _, mine, other in sorted(matches, key=lambda match: -match.iou):
        if mine.cut != other.cut:
            (mine if mine.cut else other).dropped = True
        elif not mine.cut:
            worse = min((mine, other), key=lambda piece: piece.find.score)
            worse.dropped = True
        elif not joined & (keys := {(id(mine), other.window), (id(other), mine.window)}):
            joined |= keys
            mine.root().part_of = other.root()


def _join(finds: list[Find]) -> Iterator[Find]:
    """One instance of the finds of an object: the union of their masks, with the best score and its class."""
    if len(finds) <= 1:
        yield from finds
        return
    best = max(finds, key=lambda find: find.score)
    left, top = min(find.region.x for find in finds), min(find.region.y for find in finds)
    right = max(find.region.x + find.region.bitmap.shape[1] for find in finds)
    bottom = max(find.region.y + find.region.bitmap.shape[0] for find in finds)
    whole = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for bitmap, x, y in (find.region for find in finds):
        whole[y - top : y - top + bitmap.shape[0], x - left : x - left + bitmap.shape[1]] |= bitmap
    corners = list(zip(*(find.box for find in finds), strict=True))
    box = min(corners[0]), min(corners[1]), max(corners[2]), max(corners[3])
    yield Find(Region(whole, left, top), box, best.score, best.label)
