"""Dividing a data set: copies on one side, each class on both, shares kept, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.doctor.divide import Wish, choose_groups, divide, group_alike, one_sided

WISH = Wish(0.15, 0.1, 0.2)


def scene(seed: int) -> np.ndarray:
    """A picture (96, 96, 3) of soft blobs, unlike that of another seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BILINEAR))


def data_of(labels: list[list[int]], folder: Path = Path("x")) -> AnnotatedData:
    """A picture for each list of its objects' labels."""
    samples = tuple(
        Sample(
            folder / f"{number}.png",
            number,
            96,
            96,
            tuple(Instance(label, (0, 0, 9, 9), None, False, i) for i, label in enumerate(found)),
        )
        for number, found in enumerate(labels)
    )
    classes = max((label for found in labels for label in found), default=0) + 1
    return AnnotatedData(samples, tuple(range(classes)), tuple(f"c{label}" for label in range(classes)), (), folder)


def alone(count: int) -> list[tuple[int, ...]]:
    return [(index,) for index in range(count)]


def test_pictures_alike_are_one_group(tmp_path: Path) -> None:
    """The same file twice, the same pixels, smaller and compressed anew, mirrored; a damaged picture is alone."""
    data = data_of([[0]] * 9, tmp_path)
    for number, seed in enumerate([1, 2, 3, 4]):
        Image.fromarray(scene(seed)).save(tmp_path / f"{number}.png")
    Image.fromarray(scene(1)).save(tmp_path / "4.png", compress_level=1)
    Image.fromarray(scene(2)).resize((48, 48)).save(tmp_path / "5.png", "JPEG", quality=60)
    Image.fromarray(scene(1)[:, ::-1]).resize((64, 64)).save(tmp_path / "6.png")
    (tmp_path / "7.png").write_bytes(b"damaged")
    twice = data.samples[3]
    data = AnnotatedData((*data.samples[:8], twice), *(data.category_ids, data.classes, (), tmp_path))
    groups = group_alike(data.samples)
    assert sorted(groups.groups) == [(0, 4, 6), (1, 5), (2,), (3, 8), (7,)]
    assert not groups.exact_only


@pytest.mark.parametrize("count", [5, 6, 7, 10, 19, 100, 333])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_tenth_to_a_fifth(count: int, seed: int) -> None:
    data = data_of([[0]] * count)
    chosen = choose_groups(data, alone(count), WISH, seed)
    assert 0.1 * count <= len(chosen) <= 0.2 * count
    assert chosen == choose_groups(data, alone(count), WISH, seed)


def test_another_seed_chooses_others() -> None:
    data = data_of([[0]] * 100)
    assert choose_groups(data, alone(100), WISH, 0) != choose_groups(data, alone(100), WISH, 1)


def test_too_few() -> None:
    assert choose_groups(data_of([[0]] * 4), alone(4), WISH, 0) == []
    assert choose_groups(data_of([[0]] * 10), [tuple(range(10))], WISH, 0) == []
    assert choose_groups(data_of([[0], *[[]] * 20]), alone(21), WISH, 0) == []  # its one object stays


@pytest.mark.parametrize("seed", range(5))
def test_each_class_is_on_both_sides(seed: int) -> None:
    """Rare classes, of two pictures each, too; the class of one picture stays to be learnt."""
    labels = [[0]] * 92 + [[1], [1], [2, 0], [2], [3, 1], [3], [4], [0]]
    data = data_of(labels)
    chosen = {index for group in choose_groups(data, alone(100), WISH, seed) for index in group}
    shown = [{label for index in side for label in labels[index]} for side in (chosen, set(range(100)) - chosen)]
    assert shown == [{0, 1, 2, 3}, {0, 1, 2, 3, 4}]
    assert 10 <= len(chosen) <= 20


def test_groups_are_never_cut() -> None:
    groups = [tuple(range(start, start + 7)) for start in range(0, 98, 7)]
    data = data_of([[0]] * 98)
    chosen = choose_groups(data, groups, WISH, 3)
    assert set(chosen) <= set(groups)
    assert 9.8 <= 7 * len(chosen) <= 19.6


def test_three_parts(tmp_path: Path) -> None:
    data = data_of([[number % 3] for number in range(30)], tmp_path)
    for number in range(30):
        Image.fromarray(scene(number // 2)).save(tmp_path / f"{number}.png")
    groups = group_alike(data.samples)
    assert len(groups.groups) == 15
    parts = divide(data, groups, {"val": Wish(0.2, 0.1, 0.3), "test": Wish(0.1, 0.05, 0.15)}, 0)
    sides = {name: {sample.image_id for sample in part.samples} for name, part in parts.items()}
    assert set.union(*sides.values()) == set(range(30))
    assert {name: len(side) for name, side in sides.items()} == {"train": 20, "val": 6, "test": 4}
    for side in sides.values():
        assert {number ^ 1 for number in side} == side  # both pictures of a scene
    assert one_sided(data, {"val": parts["val"]}) == []
    assert one_sided(data, {"it": data_of([[0]])}) == ["it shows no object of c1, c2"]
