"""Divides a data set at random into train, val and test. Copies of a picture and similar pictures stay together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from condinst.data.pictures.image import read_image
from condinst.data.sample import AnnotatedData, Sample
from condinst.doctor.checks.copies import MOST_PAIRS, TURNS, Fingerprint, copies_between, fingerprint
from condinst.errors import DataError, some

Progress = Callable[[int, int], None]  # (done, of how many)
Group = tuple[int, ...]  # indices of samples that stay together


class Groups(NamedTuple):
    """Groups of samples.

    groups: every sample is in exactly one group. exact_only: there are too many pictures, so only identical pictures
    were grouped.
    """

    groups: tuple[Group, ...]
    exact_only: bool


class Wish(NamedTuple):
    """The wanted share of pictures of a part, and its least and greatest share; 0 to 1."""

    share: float
    least: float
    most: float


def group_alike(samples: Sequence[Sample], progress: Progress | None = None) -> Groups:
    """Return groups of samples with the same file, the same pixels, or much alike pictures, as `data check` finds them.

    Decodes every picture once and keeps a kilobyte of each picture. A picture that cannot be decoded is in a group of
    its own.
    """
    parent = list(range(len(samples)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(a: int, b: int) -> None:
        a, b = find(a), find(b)
        parent[max(a, b)] = min(a, b)

    first: dict[object, int] = {}
    prints: list[Fingerprint] = []
    places: list[int] = []  # one sample for each different picture
    with ThreadPoolExecutor() as readers:
        for index, print in enumerate(readers.map(_fingerprint, samples)):
            join(index, first.setdefault(samples[index].path, index))
            if print is not None:
                if print.digest not in first:
                    prints.append(print)
                    places.append(index)
                join(index, first.setdefault(print.digest, index))
            if progress is not None:
                progress(index + 1, len(samples))
    for copy in copies_between(prints, prints):
        join(places[copy.first], places[copy.second])
    members = defaultdict(list)
    for index in range(len(samples)):
        members[find(index)].append(index)
    return Groups(tuple(map(tuple, members.values())), len(prints) ** 2 * len(TURNS) > MOST_PAIRS)


def _fingerprint(sample: Sample) -> Fingerprint | None:
    try:
        return fingerprint(read_image(sample.path))
    except DataError:
        return None


def choose_groups(data: AnnotatedData, groups: Sequence[Group], wish: Wish, seed: int) -> list[Group]:
    """Choose groups at random by `seed`, with about `wish.share` of the pictures of all groups.

    Every class in at least two groups is on both sides, the rarest class first, as far as `wish.most` allows. Returns
    no groups if `wish.least` cannot be reached within `wish.most`, or if one side would have no object.
    """
    counts = [_classes(data, group) for group in groups]
    total = sum(map(len, groups))
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    choice = _Choice(groups, counts)
    most = wish.most * total + 1e-9
    share = min(max(round(wish.share * total), 1), most)
    for label, _ in sorted(choice.left.items(), key=lambda item: (item[1], item[0])):
        if label not in choice.shown:
            able = [index for index in order if label in counts[index] and choice.fits(index, most)]
            if able:
                choice.add(min(able, key=lambda index: len(groups[index])))
    for index in order:
        if choice.fits(index, share):
            choice.add(index)
    if choice.size < wish.least * total - 1e-9:  # only larger groups are left
        able = [index for index in order if choice.fits(index, most)]
        if able:
            choice.add(min(able, key=lambda index: len(groups[index])))
    if not choice.shown or choice.size < wish.least * total - 1e-9:
        return []
    return [groups[index] for index in sorted(choice.chosen)]


class _Choice:
    """Groups chosen so far. left: for each class, number of other groups that show it. shown: classes of the chosen
    groups.
    """

    def __init__(self, groups: Sequence[Group], counts: Sequence[set[int]]) -> None:
        self.groups, self.counts = groups, counts
        self.left = Counter(label for found in counts for label in found)
        self.shown: set[int] = set()
        self.chosen: set[int] = set()
        self.size = 0  # samples

    def fits(self, index: int, limit: float) -> bool:
        """Return whether the group may be chosen.

        With the group, at most `limit` samples are chosen, and each class of the group must remain elsewhere.
        """
        if index in self.chosen or self.size + len(self.groups[index]) > limit:
            return False
        return all(self.left[label] > 1 for label in self.counts[index])

    def add(self, index: int) -> None:
        self.chosen.add(index)
        self.size += len(self.groups[index])
        self.shown |= self.counts[index]
        self.left.subtract(self.counts[index])


def _classes(data: AnnotatedData, group: Group) -> set[int]:
    return {one.label for index in group for one in data.samples[index].instances if not one.crowd}


def take(data: AnnotatedData, indices: Sequence[int]) -> AnnotatedData:
    """Return the data set of these samples, in their old order."""
    return replace(data, samples=tuple(data.samples[index] for index in sorted(indices)))


def divide(data: AnnotatedData, groups: Groups, wishes: Mapping[str, Wish], seed: int) -> dict[str, AnnotatedData]:
    """Return train and each part of `wishes`. A part without suitable groups is missing."""
    parts: dict[str, list[int]] = {}
    left = list(groups.groups)
    for number, (name, wish) in enumerate(wishes.items()):
        rest = sum(map(len, left)) / max(len(data.samples), 1)  # shares refer to the whole data set
        scaled = Wish(*(share / rest for share in wish))
        chosen = choose_groups(data, left, scaled, seed + number)
        if chosen:
            parts[name] = [index for group in chosen for index in group]
            left = [group for group in left if group not in set(chosen)]
    return {"train": take(data, [index for group in left for index in group])} | {
        name: take(data, indices) for name, indices in parts.items()
    }


def one_sided(data: AnnotatedData, parts: Mapping[str, AnnotatedData]) -> list[str]:
    """Return a note for each part about the classes of the data set that the part does not show."""
    notes = []
    every = {one.label for sample in data.samples for one in sample.instances if not one.crowd}
    for name, part in parts.items():
        shown = {one.label for sample in part.samples for one in sample.instances if not one.crowd}
        missing = [data.classes[label] for label in sorted(every - shown)]
        if missing:
            notes.append(f"{name} shows no object of {some(missing)}")
    return notes
