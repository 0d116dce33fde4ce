"""Which picture is seen when: each once an epoch, the same for a resumed run, shared by processes."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine.batches import BatchKeys, first_plain_epoch, make_steps
from condinst.structures import Images

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"


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


@pytest.mark.parametrize(
    ("part", "iterations", "pictures", "expected"),
    [
        (0.0, 100, 800, None),
        (20 / 300, 137_426, 117_266, 280),  # COCO: 300 epochs in batches of 256, rounded up to whole iterations
        (0.0667, 137_426, 117_266, 280),
        (0.25, 10, 640, 3),  # 4 epochs of 640 pictures
        (1.0, 10, 640, 0),
    ],
)
def test_first_plain_epoch_by_hand(part: float, iterations: int, pictures: int, expected: int | None) -> None:
    config = Config().with_overrides(
        [f"augment.plain_part={part}", f"train.iterations={iterations}", "train.batch_size=64", "train.accumulate=4"]
    )
    assert first_plain_epoch(config, pictures) == expected


def batch_of(*settings: str) -> Images:
    size = ["augment.shorter=[48]", "augment.longer=48", "augment.crop=96"]
    run = ["train.workers=0", "train.iterations=1", "train.batch_size=2"]
    look = ["model.pixel_mean=[14,14,14]", "model.pixel_std=[10,10,10]"]
    config = Config().with_overrides([*size, *run, *look, *settings])
    (step,) = make_steps(0, config, read_coco(NUCLEI / "train.json", NUCLEI / "images"), Accelerator(cpu=True))
    return step[0].images


def test_letter_boxes_are_padded_to_the_crop() -> None:
    """Small pictures get their padding, in its own colour, right and bottom."""
    images = batch_of("input.letterbox=true", "model.pad_value=114")
    assert images.tensor.shape == (2, 3, 96, 96)
    for tensor, (height, width) in zip(images.tensor, images.sizes, strict=True):
        assert max(height, width) == 48
        assert (tensor[:, height:] == 10).all()
        assert (tensor[:, :, width:] == 10).all()
        assert tensor[:, :height, :width].std() > 0
    assert max(batch_of("model.pad_value=114").tensor.shape[-2:]) == 64


def test_canvases_have_the_colour_of_the_padding() -> None:
    mosaic = ["augment.mosaic=1", "augment.mosaic_kind=canvas", "augment.longer=96", "augment.jitter=[0.5,0.5]"]
    tensor = batch_of("model.pad_value=114", *mosaic).tensor
    assert tensor.shape == (2, 3, 96, 96)
    assert ((tensor == 10).all(dim=1).float().mean(dim=(1, 2)) > 0.1).all()
    other = batch_of(*mosaic).tensor
    filled = (other == torch.tensor([124, 116, 104]).sub(14).div(10)[:, None, None]).all(dim=1)
    assert (filled.float().mean(dim=(1, 2)) > 0.1).all()
