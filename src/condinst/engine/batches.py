"""Which training image is seen when, by which process: a pure function of (seed, iteration), so resuming is exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index): what the data set turns into one augmented sample


class BatchKeys(Sampler[list[Key]]):
    """Batches of (epoch, index) from iteration `start` to `stop`; each epoch is a fresh permutation.

    The global batch is cut into `processes` equal parts, of which this yields part `rank`.
    """

    def __init__(
        self, length: int, batch_size: int, start: int, stop: int, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.length, self.batch_size, self.start, self.stop = length, batch_size, start, stop
        self.seed, self.rank, self.share = seed, rank, batch_size // processes

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for iteration in range(self.start, self.stop):
            first = iteration * self.batch_size + self.rank * self.share
            keys: list[Key] = []
            for position in range(first, first + self.share):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
