"""Keeps the pictures that were read last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from condinst.data.sample import Array8


class KeptPictures:
    """The last `most` pictures that this process has decoded. What it returns does not depend on what it has kept.

    read: decodes the picture of an index.
    """

    def __init__(self, most: int, read: Callable[[int], Array8]) -> None:
        self.most, self.read = most, read
        self.kept: OrderedDict[int, Array8] = OrderedDict()

    def __call__(self, index: int) -> Array8:
        """Return the picture (H, W, 3) uint8. Nobody may change it."""
        if not self.most:
            return self.read(index)
        image = self.kept.pop(index) if index in self.kept else self.read(index)
        self.kept[index] = image
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return image
