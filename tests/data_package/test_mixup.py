"""Mixup by hand, and as a part of an example."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.data.augment.compose import Scene
from condinst.data.augment.mixup import mix
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.data.shown import Shown, centroid_of
from condinst.ops.bitmaps.rle import Region
from condinst.settings.training import AugmentConfig

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
CONFIG = AugmentConfig(shorter=(96,), longer=400, crop=96, jitter=(0.3, 1.2))


def scene(height: int, width: int, colour: int, *things: Shown) -> Scene:
    return Scene(np.full((height, width, 3), colour, dtype=np.uint8), things, (Path(str(colour)),))


def corner(label: int) -> Shown:
    """Three pixels: (2, 1), (3, 1) and (2, 2)."""
    region = Region(np.array([[1, 1], [1, 0]], dtype=np.bool_), 2, 1)
    return Shown(label, (2, 1, 4, 3), region, centroid_of(region), True)


def test_mixed_by_hand() -> None:
    mixed = mix(scene(4, 6, 101, corner(0)), scene(5, 3, 200, corner(1)), 0, (114, 114, 114), mirrored=False)
    assert mixed.image.shape == (5, 6, 3)
    assert mixed.image[:4, :3].tolist() == [[[150] * 3] * 3] * 4  # 150.5, rounded down
    assert (mixed.image[:4, 3:] == (101 + 114) // 2).all()
    assert (mixed.image[4, :3] == (114 + 200) // 2).all()
    assert (mixed.image[4, 3:] == 114).all()
    assert [thing.label for thing in mixed.things] == [0, 1]
    assert all(thing.box == corner(0).box for thing in mixed.things)
    assert mixed.paths == (Path("101"), Path("200"))


def test_the_other_picture_is_mirrored_with_its_padding() -> None:
    mixed = mix(scene(8, 8, 100), scene(4, 5, 200, corner(1)), 8, (0, 0, 0), mirrored=True)
    assert (mixed.image[:4, 3:] == 150).all()
    assert (mixed.image[:4, :3] == 50).all()
    (thing,) = mixed.things
    assert thing.box == (4, 1, 6, 3)
    assert (thing.region.x, thing.region.y) == (4, 1)
    assert thing.region.bitmap.tolist() == [[True, True], [False, True]]
    assert thing.centroid == pytest.approx(centroid_of(thing.region))


def test_canvas_has_the_least_side() -> None:
    mixed = mix(scene(4, 6, 10), scene(5, 3, 20), 9, (7, 8, 9), mirrored=False)
    assert mixed.image.shape == (9, 9, 3)
    assert (mixed.image[5:] == (7, 8, 9)).all()


def nuclei() -> AnnotatedData:
    return read_coco(NUCLEI / "train.json", NUCLEI / "images")


def test_an_example_has_the_objects_of_both() -> None:
    data = nuclei()
    alone = TrainingSet(data, CONFIG, 4, 0)
    both = TrainingSet(data, CONFIG.model_copy(update={"mixup": 1.0}), 4, 0)
    for epoch in range(4):
        one, mixed = alone[(epoch, 0)], both[(epoch, 0)]
        count = len(one.truth.labels)
        assert len(mixed.truth.labels) > count
        assert torch.equal(mixed.truth.boxes[:count], one.truth.boxes)
        assert mixed.image.shape == (96, 96, 3)
        assert mixed.original_size == (96, 96)
        assert mixed.paths[0] == one.paths[0]
        assert len(mixed.paths) == 2


def test_the_other_picture_is_a_mosaic_too() -> None:
    update = {"mixup": 1.0, "mosaic": 1.0, "mosaic_kind": "canvas", "longer": 96}
    example = TrainingSet(nuclei(), CONFIG.model_copy(update=update), 4, 0)[(0, 1)]
    assert len(example.paths) == 8


def test_a_picture_without_objects_is_no_partner() -> None:
    data = nuclei()
    bare = replace(data, samples=tuple(replace(sample, instances=()) for sample in data.samples))
    mixed = TrainingSet(bare, CONFIG.model_copy(update={"mixup": 1.0}), 4, 0)[(0, 0)]
    assert np.array_equal(mixed.image, TrainingSet(bare, CONFIG, 4, 0)[(0, 0)].image)
    half = replace(data, samples=(data.samples[0], *bare.samples[1:]))
    partners = {
        TrainingSet(half, CONFIG.model_copy(update={"mixup": 1.0}), 4, 0)[(epoch, 1)].paths[1] for epoch in range(9)
    }
    assert partners == {data.samples[0].path}
