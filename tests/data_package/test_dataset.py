"""Examples made of one picture or several: what decides them, and what always holds, whatever the pictures are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from condinst.config import Config
from condinst.data.batch import Collate, Example
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.data.sample import AnnotatedData, Instance, Polygons, RunLengths, Sample
from condinst.data.transforms import augment
from condinst.data.truth import draw_truth
from condinst.engine.batches import BatchKeys
from condinst.errors import UsageError
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.settings.model import ModelConfig
from condinst.settings.training import AugmentConfig
from condinst.structures import STRIDES
from condinst.training.targets import assign

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
PLAIN = AugmentConfig(shorter=(96, 128), longer=400, crop=96, turns=True, brightness=0.2)
MIXED = PLAIN.model_copy(update={"mosaic": 0.5, "copy_paste": 0.5, "jitter": (0.5, 1.5)})


def nuclei() -> AnnotatedData:
    return read_coco(NUCLEI / "train.json", NUCLEI / "images")


def same(one: Example, other: Example) -> bool:
    truths = zip(one.truth, other.truth, strict=True)
    return np.array_equal(one.image, other.image) and all(torch.equal(mine, its) for mine, its in truths)


@pytest.mark.parametrize("index", [0, 1])
def test_without_the_options_an_example_is_one_augmented_picture(index: int) -> None:
    """To the last draw, so that a run goes on as it began."""
    data = nuclei()
    example = TrainingSet(data, PLAIN, 4, seed=3)[(5, index)]
    sample = data.samples[index]
    changed = augment(read_image(sample.path), PLAIN, np.random.default_rng([3, 5, index]))
    truth = draw_truth(sample, changed.matrix, *changed.image.shape[:2], 4)
    assert same(example, Example(changed.image, (sample.height, sample.width), truth))
    assert example.paths == (sample.path,)
    assert example.original_size == (sample.height, sample.width)


def test_seed_epoch_and_index_decide_every_mixture() -> None:
    first, again = (TrainingSet(nuclei(), MIXED, 4, seed=1) for _ in range(2))
    keys = [(epoch, index) for epoch in range(6) for index in range(2)]
    backwards = {key: again[key] for key in reversed(keys)}
    examples = [first[key] for key in keys]
    assert all(same(example, backwards[key]) for key, example in zip(keys, examples, strict=True))
    assert {len(example.paths) for example in examples} == {1, 2, 4, 5}
    assert not same(first[keys[0]], TrainingSet(nuclei(), MIXED, 4, seed=2)[keys[0]])


def test_worker_processes_mix_alike() -> None:
    keys = [[(epoch, 0), (epoch, 1)] for epoch in range(3)]
    alone, shared = (
        list(
            DataLoader(
                TrainingSet(nuclei(), MIXED, 4, 0),
                batch_sampler=keys,
                collate_fn=Collate((0, 0, 0), (1, 1, 1), "RGB", 32),
                num_workers=workers,
            )
        )
        for workers in (0, 2)
    )
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.images.tensor, other.images.tensor)
        assert one.paths == other.paths
        for mine, its in zip(one.truths, other.truths, strict=True):
            assert all(torch.equal(*parts) for parts in zip(mine, its, strict=True))


def test_mosaics_have_the_size_of_the_crop_or_of_their_first_picture() -> None:
    always = {"mosaic": 1.0, "shorter": (96,), "turns": False}
    cropped = TrainingSet(nuclei(), PLAIN.model_copy(update=always), 4, 0)[(0, 0)]
    assert cropped.image.shape == (96, 96, 3)
    assert cropped.original_size == (96, 96)
    whole = TrainingSet(nuclei(), PLAIN.model_copy(update={**always, "crop": 0}), 4, 0)[(0, 0)]
    alone = TrainingSet(nuclei(), PLAIN.model_copy(update={**always, "crop": 0, "mosaic": 0.0}), 4, 0)[(0, 0)]
    assert whole.image.shape == alone.image.shape
    assert whole.paths[0] == alone.paths[0]


def test_pasting_needs_masks() -> None:
    with pytest.raises(UsageError, match="copy_paste"):
        Config.from_dict({"targets": {"supervision": "boxes"}, "augment": {"copy_paste": 0.5}})


def half_boxed(data: AnnotatedData) -> AnnotatedData:
    """Every second instance has a box alone, and another label."""
    samples = [
        replace(
            sample,
            instances=tuple(
                replace(instance, label=1, shape=None) if number % 2 else instance
                for number, instance in enumerate(sample.instances)
            ),
        )
        for sample in data.samples
    ]
    return replace(data, samples=tuple(samples), classes=("masked", "boxed"), category_ids=(1, 2))


@pytest.mark.parametrize("options", [{"copy_paste": 1.0}, {"mosaic": 1.0}, {"copy_paste": 1.0, "mosaic": 1.0}])
def test_mixed_supervision_from_the_file_to_the_targets(options: dict[str, float]) -> None:
    """What has a mask keeps it and its label; a box alone stays one; the batch's masks are the instances' own."""
    data = TrainingSet(half_boxed(nuclei()), PLAIN.model_copy(update=options), 4, 0)
    examples = [data[(epoch, index)] for epoch in range(3) for index in range(2)]
    batch = Collate((0, 0, 0), (1, 1, 1), "RGB", 32)(examples)
    levels = [(-(-96 // stride),) * 2 for stride in STRIDES]
    targets = assign(batch.truths, levels, ModelConfig().size_ranges, 2, 1.5)
    labels = torch.cat([example.truth.labels for example in examples])
    boxes = torch.cat([example.truth.boxes for example in examples])
    assert torch.equal(targets.has_mask, labels == 0)
    assert min(labels.bincount()) > 10
    positive = targets.instance_index >= 0
    assert torch.equal(labels[targets.instance_index[positive]], targets.labels[positive])
    masks = unpack(targets.mask_pixels, targets.mask_places, torch.arange(len(labels)), (24, 24))
    xs, ys = torch.arange(24) * 4 + 2, torch.arange(24)[:, None] * 4 + 2
    filled = []
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
        inside = (xs >= x0) & (ys >= y0) & (xs < x1) & (ys < y1)
        near = (xs > x0 - 1) & (ys > y0 - 1) & (xs < x1 + 1) & (ys < y1 + 1)
        assert not mask[~near].any()
        filled.append(bool(mask[inside].all()))
    assert all(full or has for full, has in zip(filled, targets.has_mask.tolist(), strict=True))
    assert sum(filled) < len(filled) * 0.9  # masks are not


numbers = st.integers(0, 2**31)


def any_instance(rng: np.random.Generator, height: int, width: int) -> Instance:
    """A polygon, run lengths, a box alone or a crowd, partly outside, thin or small."""
    x0, y0 = rng.uniform(-0.2, 0.9) * width, rng.uniform(-0.2, 0.9) * height
    box = (x0, y0, x0 + rng.uniform(0.3, max(width, 1)), y0 + rng.uniform(0.3, max(height, 1)))
    kind, label = rng.integers(5), int(rng.integers(3))
    if kind <= 1:
        points = rng.uniform(box[:2], box[2:], (int(rng.integers(3, 7)), 2))
        low, high = points.min(0), points.max(0)
        return Instance(label, (*low.tolist(), *high.tolist()), Polygons((points,)), False, 1)
    if kind == 2:
        column, row = int(rng.integers(width)), int(rng.integers(height))
        mask = np.ones((int(rng.integers(1, height - row + 1)), int(rng.integers(1, width - column + 1))), np.uint8)
        return Instance(
            label,
            (column, row, column + mask.shape[1], row + mask.shape[0]),
            RunLengths.of(mask, column, row),
            False,
            1,
        )
    return Instance(label, box, None, bool(kind == 4), 1)


@settings(max_examples=150, deadline=None)
@given(
    seed=numbers,
    sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=3),
    objects=st.integers(0, 8),
    crop=st.sampled_from([0, 1, 24, 64]),
    mosaic=st.sampled_from([0.0, 1.0]),
    copy_paste=st.sampled_from([0.0, 1.0]),
    stride=st.sampled_from([1, 4, 8]),
)
def test_whatever_the_pictures_are(
    seed: int,
    sizes: list[tuple[int, int]],
    objects: int,
    crop: int,
    mosaic: float,
    copy_paste: float,
    stride: int,
) -> None:
    """One picture or more, without objects, of a pixel, of any shape: boxes inside, masks where they belong."""
    rng = np.random.default_rng(seed)
    samples = tuple(
        Sample(
            Path(str(number)), number, width, height, tuple(any_instance(rng, height, width) for _ in range(objects))
        )
        for number, (height, width) in enumerate(sizes)
    )
    config = AugmentConfig(
        shorter=(8, 40), longer=80, jitter=(0.3, 3), crop=crop, turns=True, mosaic=mosaic, copy_paste=copy_paste
    )
    data = TrainingSet(AnnotatedData(samples, (1, 2, 3), ("a", "b", "c"), (), Path()), config, stride, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "condinst.data.dataset.read_image", lambda path, **_: np.zeros((*sizes[int(str(path))], 3), dtype=np.uint8)
        )
        example = data[(0, seed % len(sizes))]
    height, width = example.image.shape[:2]
    assert example.image.dtype == np.uint8
    assert crop == 0 or max(height, width) <= crop
    truth = example.truth
    count = len(truth.labels)
    assert count == len(truth.boxes) == len(truth.centroids) == len(truth.mask_places) == len(truth.has_mask)
    assert ((truth.labels >= 0) & (truth.labels < 3)).all()
    limits = torch.tensor([width, height, width, height])
    assert (truth.boxes >= 0).all()
    assert (truth.boxes <= limits).all()
    assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()
    assert (truth.centroids > -1).all()
    assert (truth.centroids < limits[:2]).all()
    size = (-(-height // stride), -(-width // stride))
    masks = unpack(truth.mask_pixels, truth.mask_places, torch.arange(count), size)
    if stride == 1:
        assert masks.flatten(1).any(1).all()
    assert ((truth.semantic >= -1) & (truth.semantic < 3)).all()
    assert set(truth.semantic.unique().tolist()) - {-1} <= set(truth.labels[truth.has_mask].tolist())


def test_the_last_epochs_are_plain() -> None:
    """From there on as if nothing were joined; before it, the same as without the limit."""
    config = MIXED.model_copy(update={"mosaic": 1.0, "mixup": 0.5})
    joined, limited = TrainingSet(nuclei(), config, 4, 1), TrainingSet(nuclei(), config, 4, 1, plain_from=3)
    for epoch in range(3):
        assert same(limited[(epoch, 0)], joined[(epoch, 0)])
    plain = TrainingSet(nuclei(), config.model_copy(update={"mosaic": 0, "mixup": 0, "copy_paste": 0}), 4, 1)
    for epoch in (3, 4):
        assert same(limited[(epoch, 0)], plain[(epoch, 0)])
        assert len(limited[(epoch, 0)].paths) == 1


def many(count: int) -> AnnotatedData:
    """The pictures again and again, each with a path of its own name."""
    data = nuclei()
    samples = (replace(data.samples[number % 2], image_id=number) for number in range(count))
    return replace(data, samples=tuple(samples))


def test_kept_pictures_change_nothing_and_save_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process has read before, the partners are the same, and among the pictures just before."""
    config = PLAIN.model_copy(update={"mosaic": 1.0, "cache": 5})
    data = many(40)
    order = [index for batch in BatchKeys(40, 4, 0, 10, seed=2) for _, index in batch]
    reads: list[int] = []
    monkeypatch.setattr(
        TrainingSet, "_read", lambda self, index: reads.append(index) or read_image(self.data.samples[index].path)
    )
    pictures = TrainingSet(data, config, 4, 2)
    examples = [pictures[(0, index)] for index in order]
    assert len(pictures.read.kept) == 5
    assert len(reads) < 2.2 * len(order)  # of 4 for each example
    for place in (7, 20, 39):
        reads.clear()
        fresh = TrainingSet(data, config, 4, 2)
        assert same(fresh[(0, order[place])], examples[place])
        assert set(reads) <= set(order[place - 5 : place + 1])
        assert order[place] in reads


def test_small_objects_are_left_out() -> None:
    config = PLAIN.model_copy(update={"shorter": (96,)})
    for index in (0, 1):
        every = TrainingSet(nuclei(), config, 4, 0)[(0, index)].truth
        large = TrainingSet(nuclei(), config.model_copy(update={"min_side": 6.0}), 4, 0)[(0, index)].truth
        sides = (every.boxes[:, 2:] - every.boxes[:, :2]).min(dim=1).values
        assert 0 < (sides > 6).sum() < len(sides)
        assert torch.equal(large.boxes, every.boxes[sides > 6])


def test_another_picture_replaces_one_whose_objects_are_all_too_small() -> None:
    data = nuclei()
    tiny = Instance(0, (5.0, 5.0, 6.0, 6.0), None, False, 1)
    both = replace(data, samples=(replace(data.samples[0], instances=(tiny,)), data.samples[1]))
    config = PLAIN.model_copy(update={"min_side": 3.0, "crop": 0})
    assert TrainingSet(both, config, 4, 0)[(0, 0)].paths == (data.samples[1].path,)
    bare = replace(data, samples=(replace(data.samples[0], instances=()), data.samples[1]))
    assert TrainingSet(bare, config, 4, 0)[(0, 0)].paths == (data.samples[0].path,)


def test_a_canvas_needs_a_crop() -> None:
    with pytest.raises(UsageError, match="crop"):
        Config.from_dict({"augment": {"mosaic": 0.5, "mosaic_kind": "canvas"}})
