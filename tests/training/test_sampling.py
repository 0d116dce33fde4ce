"""The choice of positives against a loop over images and instances, and its dependence on seed and device."""

import pytest
import torch
from torch import Tensor

from condinst.structures import HeadOutput, Positives, Targets
from condinst.training.sampling import Sampling, choose_positives, count_positives

LEVELS = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
LOCATIONS = sum(height * width for height, width in LEVELS)


def make_head(images: int, classes: int = 3) -> HeadOutput:
    torch.manual_seed(2)

    def maps(channels: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(images, channels, *size) for size in LEVELS)

    return HeadOutput(maps(classes), maps(4), maps(1), maps(5))


def make_targets(instance_index: Tensor) -> Targets:
    """Nothing but the positives matters here."""
    nothing = torch.empty(0)
    return Targets(nothing, nothing, nothing, instance_index, nothing, nothing, nothing, nothing)


def scattered(images: int = 3, per_image: int = 4) -> Tensor:
    """(N, L): the second image without positives, the last instance of the others with a single one."""
    generator = torch.Generator().manual_seed(5)
    index = torch.randint(-3, per_image - 1, (images, LOCATIONS), generator=generator).clamp(min=-1)
    for image in range(images):
        index[image, 17] = per_image - 1
        index[image] += torch.where(index[image] >= 0, image * per_image, 0)
    index[1] = -1
    return index


def pick(head: HeadOutput, index: Tensor, sampling: Sampling, most: int, seed: int = 0) -> list[tuple[int, int]]:
    chosen = choose_positives(head, make_targets(index), sampling, most, torch.Generator().manual_seed(seed))
    assert isinstance(chosen, Positives)
    return list(zip(chosen.image_index.tolist(), chosen.location_index.tolist(), strict=True))


def rows(levels: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2).double()


def best_by_loop(head: HeadOutput, index: Tensor, most: int) -> list[tuple[int, int]]:
    scores = rows(head.class_logits).sigmoid().amax(2) * rows(head.centerness_logits).sigmoid()[..., 0]
    found = []
    for image in range(len(index)):
        instances = sorted(set(index[image].tolist()) - {-1})
        for instance in instances:
            places = (index[image] == instance).nonzero()[:, 0].tolist()
            places.sort(key=lambda place: -scores[image, place].item())
            found += [(image, place) for place in places[: max(most // len(instances), 1)]]
    return sorted(found)


@pytest.mark.parametrize("most", [1, 4, 9, 30, 64, 10_000])
def test_the_best_of_each_instance(most: int) -> None:
    head, index = make_head(3), scattered()
    found = pick(head, index, "best_per_image", most)
    assert found == best_by_loop(head, index, most)
    assert {int(index[place]) for place in found} == {0, 1, 2, 3, 8, 9, 10, 11}
    if most == 10_000:
        assert len(found) == (index >= 0).sum()


def test_more_instances_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the one of each instance, the best of each image."""
    monkeypatch.setattr("condinst.training.sampling.CROWD", 3)
    head, index = make_head(3), scattered()
    scores = rows(head.class_logits).sigmoid().amax(2) * rows(head.centerness_logits).sigmoid()[..., 0]
    one_each = best_by_loop(head, index, 1)
    expected = []
    for image in range(3):
        mine = [place for place in one_each if place[0] == image]
        expected += sorted(mine, key=lambda place: -scores[place].item())[:3]
    assert pick(head, index, "best_per_image", 1) == sorted(expected)
    assert len(expected) == 6
    assert count_positives(make_targets(index), "best_per_image", 1) == 6


def test_the_best_need_no_luck() -> None:
    head, index = make_head(3), scattered()
    assert pick(head, index, "best_per_image", 9, seed=1) == pick(head, index, "best_per_image", 9, seed=2)


@pytest.mark.parametrize("sampling", ["random", "random_per_image"])
def test_random_draws(sampling: Sampling) -> None:
    """As many as allowed, each once, in order; the generator alone decides which."""
    head, index = make_head(3), scattered()
    positive = {(image, place) for image, place in (index >= 0).nonzero().tolist()}
    found = pick(head, index, sampling, 10, seed=1)
    assert found == sorted(set(found))
    assert set(found) < positive
    per_image = [sum(image == number for image, _ in found) for number in range(3)]
    assert per_image == [10, 0, 10] if sampling == "random_per_image" else sum(per_image) == 10
    assert pick(head, index, sampling, 10, seed=1) == found != pick(head, index, sampling, 10, seed=2)
    assert set(pick(head, index, sampling, len(positive))) == positive


@pytest.mark.parametrize("sampling", ["random", "random_per_image"])
def test_all_positives_are_drawn_with_equal_probability(sampling: Sampling) -> None:
    index = torch.full((1, LOCATIONS), -1)
    index[0, :6] = torch.tensor([0, 0, 0, 0, 1, 1])
    head = make_head(1)
    counts = torch.zeros(6)
    for seed in range(600):
        for _, place in pick(head, index, sampling, 2, seed):
            counts[place] += 1
    assert counts.sum() == 1200
    assert (counts - 200).abs().max() < 60  # five standard deviations


@pytest.mark.parametrize("sampling", ["random", "random_per_image", "best_per_image"])
def test_no_positive(sampling: Sampling) -> None:
    assert pick(make_head(2), torch.full((2, LOCATIONS), -1), sampling, 5) == []
