"""What a file format must offer so that its pictures can be read window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Placed = tuple[int, int, NDArray[Any]]  # x and y in the picture, and (rows, columns, samples)


class Kind(NamedTuple):
    """The pixels of a file.

    samples: values of a pixel, with transparency. alpha: whether the last one is transparency. inverted: whether 0 is
    white. bits: of a value. rows: of a part that the file stores together.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    alpha: bool
    inverted: bool
    bits: int
    rows: int


class Parts(Protocol):
    """Decodes the parts of a file, such as its tiles or strips. One thread at a time calls it."""

    @property
    def kind(self) -> Kind:
        """The pixels of the file."""

    def read(self, left: int, top: int, right: int, bottom: int) -> Iterator[Placed]:
        """Yield the parts that touch a window. Raises any error for a damaged part."""

    def close(self) -> None:
        """Close the file."""
