"""Which picture is seen when: each once an epoch, the same for a resumed run, shared by processes."""

from itertools import chain

import pytest

from condinst.engine.batches import BatchKeys


def test_each_epoch_is_a_permutation() -> None:
    keys = [key for batch in BatchKeys(7, 3, 0, 14, seed=1) for key in batch]
    assert [epoch for epoch, _ in keys] == [n // 7 for n in range(42)]
    orders = [[index for epoch, index in keys if epoch == number] for number in range(6)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("start", [0, 1, 5, 9, 10])
def test_a_later_start_is_the_tail(start: int) -> None:
    whole, tail = BatchKeys(7, 3, 0, 10, seed=1), BatchKeys(7, 3, start, 10, seed=1)
    assert list(tail) == list(whole)[start:]
    assert len(tail) == 10 - start == len(list(tail))


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_processes_share_the_batch(processes: int) -> None:
    whole = list(BatchKeys(10, 6, 2, 9, seed=3))
    parts = [list(BatchKeys(10, 6, 2, 9, 3, rank, processes)) for rank in range(processes)]
    assert [list(chain(*shares)) for shares in zip(*parts, strict=True)] == whole
    assert all(len(batch) == 6 // processes for batch in parts[0])


def test_batches_larger_than_the_data() -> None:
    batches = list(BatchKeys(2, 5, 0, 4, seed=0))
    assert [len(batch) for batch in batches] == [5] * 4
    assert [epoch for batch in batches for epoch, _ in batch] == [n // 2 for n in range(20)]


def test_seeds_differ() -> None:
    assert list(BatchKeys(50, 5, 0, 10, seed=0)) != list(BatchKeys(50, 5, 0, 10, seed=1))
    sampler = BatchKeys(50, 5, 0, 10, seed=0)
    assert list(sampler) == list(sampler)
