"""Pictures of mixed sizes in one tensor; training examples that depend on (seed, epoch, index) alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from condinst.data.batch import Batch, Collate, make_images
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.errors import DataError
from condinst.settings.training import AugmentConfig

DATA = Path(__file__).parent.parent / "data" / "nuclei"
MEAN, STD = (10.0, 20.0, 30.0), (1.0, 2.0, 5.0)


def training_set(seed: int = 0) -> TrainingSet:
    config = AugmentConfig(shorter=(96, 128), longer=400, crop=96, turns=True, brightness=0.2)
    return TrainingSet(read_coco(DATA / "train.json", DATA / "images"), config, 4, seed)


def same(first: Batch, second: Batch) -> bool:
    parts = zip(
        [first.images.tensor, *sum(first.truths, ())], [second.images.tensor, *sum(second.truths, ())], strict=True
    )
    return all(torch.equal(mine, other) for mine, other in parts)


def test_normalised_then_padded_with_zeros() -> None:
    one = np.full((2, 3, 3), (11, 24, 45), dtype=np.uint8)
    images = make_images([one, np.zeros((5, 2, 3), dtype=np.uint8)], [(4, 6), (5, 2)], MEAN, STD, "RGB", 4)
    assert images.tensor.shape == (2, 3, 8, 4)
    assert images.tensor.dtype == torch.float32
    assert images.sizes == ((2, 3), (5, 2))
    assert images.original_sizes == ((4, 6), (5, 2))
    assert images.tensor[0, :, 0, 0].tolist() == [1, 2, 3]  # (11 − 10) / 1, (24 − 20) / 2, (45 − 30) / 5
    assert images.tensor[0, :, :2, :3].abs().sum() == 6 * (1 + 2 + 3)
    assert images.tensor[0].abs().sum() == 6 * (1 + 2 + 3)  # nothing but zeros beside it
    assert images.tensor[1, :, 4, 1].tolist() == [-10, -10, -6]


def test_bgr_order_takes_its_means_in_that_order() -> None:
    pixel = np.array([[[30, 20, 10]]], dtype=np.uint8)  # red 30
    images = make_images([pixel], [(1, 1)], MEAN, (1, 1, 1), "BGR", 1)
    assert images.tensor.flatten().tolist() == [0, 0, 0]


def test_batch_of_mixed_sizes_holds_the_singles() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 33), (25, 64))]
    both = make_images(arrays, [(1, 1)] * 2, MEAN, STD, "RGB", 32)
    for tensor, array in zip(both.tensor, arrays, strict=True):
        single = make_images([array], [(1, 1)], MEAN, STD, "RGB", 32).tensor[0]
        assert torch.equal(tensor[:, : single.shape[1], : single.shape[2]], single)


def test_examples_depend_on_seed_epoch_and_index_alone() -> None:
    first, again = training_set(), training_set()
    again[(3, 1)]  # other draws before do not matter
    assert np.array_equal(first[(0, 0)].image, again[(0, 0)].image)
    assert not np.array_equal(first[(0, 0)].image, first[(1, 0)].image)
    assert not np.array_equal(first[(0, 0)].image, training_set(seed=1)[(0, 0)].image)


def test_loader_workers_change_nothing() -> None:
    keys = [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    collate = Collate(MEAN, STD, "RGB", 32)
    alone, shared = (
        list(DataLoader(training_set(), batch_sampler=keys, collate_fn=collate, num_workers=workers))
        for workers in (0, 2)
    )
    assert [same(one, other) for one, other in zip(alone, shared, strict=True)] == [True, True]


def test_examples_are_what_the_structures_promise() -> None:
    batch = Collate(MEAN, STD, "RGB", 32)([training_set()[(0, 0)], training_set()[(0, 1)]])
    for (height, width), truth in zip(batch.images.sizes, batch.truths, strict=True):
        count = len(truth.labels)
        assert count > 0
        assert (truth.mask_places[:, :2] >= 0).all()
        ends = truth.mask_places[:, :2] + truth.mask_places[:, 2:]
        assert (ends <= torch.tensor([-(-width // 4), -(-height // 4)])).all()
        assert len(truth.mask_pixels) == truth.mask_places[:, 2:].prod(1).sum()
        assert truth.semantic.shape == (-(-height // 8), -(-width // 8))
        dtypes = [torch.float32, torch.int64, torch.float32, torch.bool, torch.int64, torch.int64, torch.bool]
        assert [part.dtype for part in truth] == dtypes
        assert truth.has_mask.shape == (count,)
        assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()
        assert (truth.boxes >= 0).all()
        assert (truth.boxes <= torch.tensor([width, height, width, height])).all()
    assert same(batch.to(torch.device("cpu")), batch)


def test_a_file_that_changed_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condinst.data.dataset.read_image", lambda path, **_: np.zeros((3, 4, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="changed size"):
        training_set()[(0, 0)]
