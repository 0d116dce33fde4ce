"""Pictures that come twice: the same pixels, or the same scene turned, mirrored, scaled or compressed anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condinst.data.sample import Array8

SIDE = 32  # pixels of the thumbnail
LOW = 8  # frequencies kept of each axis
# Of the six real sets' pictures of different scenes, the closest pair differs in 11 signs across splits (6 within one,
# with a correlation of 0.56) and no pair within 10 signs correlates above 0.80. Of 240 of them, copies scaled by half,
# compressed to JPEG quality 40, differ in 6 at most and correlate above 0.94; by a quarter and to 30, in 8, above 0.92.
FEWEST_SIGNS = 10  # of 63 frequencies' signs that differ, up to which two pictures are compared
LEAST_CORRELATION = 0.85  # of the thumbnails, above which they are the same scene
FLAT = 1.0  # standard deviation of a thumbnail, 0–255, under which there is no scene to recognise
MOST_PAIRS = 4_000_000_000  # compared; more would take minutes

Turn = tuple[bool, bool, bool]  # swap x and y, mirror left and right, mirror top and bottom
TURNS: tuple[Turn, ...] = tuple((a, b, c) for a, b, c in product((False, True), repeat=3))


class Fingerprint(NamedTuple):
    """What is kept of a picture. digest: of its pixels. thumbnail: (32, 32) uint8 grey."""

    digest: bytes
    thumbnail: Array8


class Copy(NamedTuple):
    """Picture `second` shows what picture `first` does; exact: pixel by pixel."""

    first: int
    second: int
    exact: bool


def fingerprint(image: Array8) -> Fingerprint:
    """Of a picture (H, W, 3) uint8."""
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Fingerprint(digest.digest(), np.asarray(grey))


def copies_between(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[Copy]:
    """For each of `second` that shows the same as one of `first`, the best such pair, exact copies before others."""
    exact = {print.digest: index for index, print in reversed(list(enumerate(first)))}
    found = {i: Copy(exact[it.digest], i, True) for i, it in enumerate(second) if it.digest in exact}
    if len(first) * len(second) * len(TURNS) <= MOST_PAIRS:
        for a, b in _similar(first, second):
            found.setdefault(b, Copy(a, b, False))
    return [found[index] for index in sorted(found)]


def copies_within(prints: Sequence[Fingerprint]) -> list[Copy]:
    """Each picture that shows the same as an earlier one, with the first such."""
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


def _similar(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs of pictures of the same scene, in the order of `second`, then of `first`."""
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
    """(8, 32): the slowest waves of the discrete cosine transform."""
    waves: NDArray[np.float64] = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(LOW)[:, None])
    return waves


COSINES = _cosines()


def _frequencies(thumbnail: Array8) -> NDArray[np.float64]:
    """(8, 8): how much of each wave down and across."""
    waves: NDArray[np.float64] = COSINES @ thumbnail.astype(np.float64) @ COSINES.T
    return waves


def _signs(waves: NDArray[np.float64], turn: Turn) -> int:
    """The 63 signs, as bits, that the turned picture has: mirroring negates the odd waves, swapping transposes."""
    swap, mirror_x, mirror_y = turn
    odd = np.where(np.arange(LOW) % 2, -1, 1)
    turned = waves.T if swap else waves
    turned = turned * (odd if mirror_x else 1) * (odd[:, None] if mirror_y else 1)
    return int.from_bytes(np.packbits(turned.ravel()[1:] > 0).tobytes(), "big")


def _correlation(first: Fingerprint, second: Fingerprint, turn: Turn) -> float:
    swap, mirror_x, mirror_y = turn
    turned = second.thumbnail.T if swap else second.thumbnail
    turned = turned[:, ::-1] if mirror_x else turned
    turned = turned[::-1] if mirror_y else turned
    return float(np.corrcoef(first.thumbnail.ravel(), turned.ravel())[0, 1])
