"""Finds pictures that occur twice: the same pixels, or the same scene turned, mirrored, scaled or compressed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condinst.data.sample import Array8

SIDE = 32  # pixels of the thumbnail
LOW = 8  # frequencies kept per axis
# Measured on six real data sets: pictures of different scenes differ in at least 11 signs across splits (6 within one
# split, with a correlation of 0.56), and no pair within 10 signs correlates above 0.80.
# Of 240 of these pictures, copies scaled by half, compressed to JPEG quality 40, differ in 6 signs at most and
# correlate above 0.94; copies scaled by a quarter, to quality 30, differ in 8 signs and correlate above 0.92.
FEWEST_SIGNS = 10  # two pictures are compared if at most this many signs (of 63 frequencies) differ
LEAST_CORRELATION = 0.85  # correlation of the thumbnails; above this value, two pictures show the same scene
DETAIL, BLOCK = 64, 4  # pixels of the thumbnails used to confirm a copy, and of the blocks compared in them
# Measured on 150 real pictures: copies scaled by half at JPEG quality 40 differ in no block by more than 5.7 grey
# levels or 0.37 of the contrast. A moved patch of a twenty-fifth of the width changes a block by 18 (median).
MOST_APART = (10.0, 0.5)  # grey levels, and the share of the picture's standard deviation, in any block
FLAT = 1.0  # standard deviation of a thumbnail, 0–255; below this value there is no scene to compare
MOST_PAIRS = 4_000_000_000  # pictures compared; more would take minutes

Turn = tuple[bool, bool, bool]  # swap x and y, mirror left and right, mirror top and bottom
TURNS: tuple[Turn, ...] = tuple((a, b, c) for a, b, c in product((False, True), repeat=3))


class Fingerprint(NamedTuple):
    """The data kept for a picture. digest: of its pixels. thumbnail: (32, 32) uint8 grey."""

    digest: bytes
    thumbnail: Array8


class Copy(NamedTuple):
    """Picture `second` shows the same scene as picture `first`. exact: all pixels are equal."""

    first: int
    second: int
    exact: bool


def fingerprint(image: Array8) -> Fingerprint:
    """Return the fingerprint of a picture (H, W, 3) uint8."""
    digest = hashlib.sha256(str(image.shape).encode())  # the fastest of hashlib: processors have instructions for it
    digest.update(np.ascontiguousarray(image).data)
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Fingerprint(digest.digest(), np.asarray(grey))


def copies_between(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[Copy]:
    """Return all pairs of a picture of `first` and a picture of `second` with the same scene, exact copies first."""
    places: dict[bytes, list[int]] = {}
    for index, it in enumerate(first):
        places.setdefault(it.digest, []).append(index)
    found = {(b, a): Copy(a, b, True) for b, it in enumerate(second) for a in places.get(it.digest, ())}
    if len(first) * len(second) * len(TURNS) <= MOST_PAIRS:
        for a, b in _similar(first, second):
            found.setdefault((b, a), Copy(a, b, False))
    return sorted(found.values(), key=lambda copy: (copy.second, not copy.exact, copy.first))


def copies_within(prints: Sequence[Fingerprint]) -> list[Copy]:
    """Return each picture with the same scene as an earlier picture, and the first such picture."""
    seen: dict[bytes, int] = {}
    found: dict[int, Copy] = {}
    for index, it in enumerate(prints):
        if it.digest in seen:
            found[index] = Copy(seen[it.digest], index, True)
        seen.setdefault(it.digest, index)
    if len(prints) ** 2 * len(TURNS) <= MOST_PAIRS:
        for a, b in _similar(prints, prints):
            if a < b and b not in found:
                found[b] = Copy(a, b, False)
    return [found[index] for index in sorted(found)]


def sure_copy(first: Array8, second: Array8) -> bool:
    """Return whether two pictures (H, W, 3) agree in every part.

    One picture may be turned, mirrored, scaled, brighter or compressed again. Two frames of a fixed camera with a
    moving object do not agree.
    """
    ours, theirs = _detail(first), _detail(second)
    return any(_agree(ours, _turned(theirs, turn)) for turn in TURNS)


def _detail(image: Array8) -> NDArray[np.float64]:
    grey = Image.fromarray(image).convert("L").resize((DETAIL, DETAIL), Image.Resampling.BICUBIC)
    return np.asarray(grey, dtype=np.float64)


def _agree(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    """Return whether no block of `ours` differs from `theirs` by more than MOST_APART.

    The comparison uses the brightness and contrast that fit best.
    """
    levels, spread = theirs - theirs.mean(), float(ours.std())
    gain = float((ours * levels).sum() / max(float((levels**2).sum()), 1e-9))
    apart = (ours - ours.mean() - gain * levels) ** 2
    count = DETAIL // BLOCK
    worst = float(apart.reshape(count, BLOCK, count, BLOCK).mean((1, 3)).max()) ** 0.5
    return gain > 0 and worst < MOST_APART[0] and worst < MOST_APART[1] * spread


def _similar(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Return pairs of pictures of the same scene, in the order of `second`, then of `first`."""
    ours, theirs = ([_frequencies(it.thumbnail) for it in prints] for prints in (first, second))
    signs = np.array([_signs(own, TURNS[0]) for own in ours], dtype=np.uint64)
    scenes = [float(it.thumbnail.std()) > FLAT for it in first]
    for b, other in enumerate(theirs):
        if second[b].thumbnail.std() <= FLAT or not len(signs):
            continue
        turned = np.array([_signs(other, turn) for turn in TURNS], dtype=np.uint64)
        close = np.bitwise_count(signs[:, None] ^ turned) <= FEWEST_SIGNS  # (first, turns)
        for a in np.flatnonzero(close.any(1)).tolist():
            turns = [TURNS[index] for index in np.flatnonzero(close[a])]
            if scenes[a] and any(_correlation(first[a], second[b], turn) > LEAST_CORRELATION for turn in turns):
                yield a, b


def _cosines() -> NDArray[np.float64]:
    """Return the slowest waves of the discrete cosine transform, (8, 32)."""
    waves: NDArray[np.float64] = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(LOW)[:, None])
    return waves


COSINES = _cosines()


def _frequencies(thumbnail: Array8) -> NDArray[np.float64]:
    """Return the strength of each wave down and across, (8, 8)."""
    waves: NDArray[np.float64] = COSINES @ thumbnail.astype(np.float64) @ COSINES.T
    return waves


def _signs(waves: NDArray[np.float64], turn: Turn) -> int:
    """Return the 63 signs of the turned picture, as bits.

    Mirroring negates the odd waves. Swapping transposes.
    """
    swap, mirror_x, mirror_y = turn
    odd = np.where(np.arange(LOW) % 2, -1, 1)
    turned = waves.T if swap else waves
    turned = turned * (odd if mirror_x else 1) * (odd[:, None] if mirror_y else 1)
    return int.from_bytes(np.packbits(turned.ravel()[1:] > 0).tobytes(), "big")


def _correlation(first: Fingerprint, second: Fingerprint, turn: Turn) -> float:
    return float(np.corrcoef(first.thumbnail.ravel(), _turned(second.thumbnail, turn).ravel())[0, 1])


def _turned(thumbnail: NDArray[Any], turn: Turn) -> NDArray[Any]:
    swap, mirror_x, mirror_y = turn
    turned = thumbnail.T if swap else thumbnail
    turned = turned[:, ::-1] if mirror_x else turned
    return turned[::-1] if mirror_y else turned
