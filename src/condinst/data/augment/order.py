"""The order of the training pictures in an epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def order_of_epoch(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the indices of all pictures in a random order: (length,)."""
    return np.random.default_rng((seed, epoch)).permutation(length)
