"""Unusual ids, and the rule of LVIS on hand-counted objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.sample import AnnotatedData, Federated, Instance, RunLengths, Sample
from condinst.errors import DataError
from condinst.evaluation.analysis import examine
from condinst.evaluation.evaluate import evaluate
from condinst.evaluation.match import match_classes
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode

SIZE = (40, 60)
BLOCK = np.ones((10, 10), dtype=np.bool_)
Found = tuple[int, int, float]  # label, x, score


def block(label: int, x: int, number: int) -> Instance:
    return Instance(label, (x, 5, x + 10, 15), RunLengths.of(BLOCK, x, 5), False, number)


def sample(number: int, *instances: Instance, federated: Federated | None = None) -> Sample:
    return Sample(Path(f"{number}.png"), number, SIZE[1], SIZE[0], instances, federated)


def data(*samples: Sample) -> AnnotatedData:
    return AnnotatedData(samples, (1, 2), ("cat", "dog"), (), Path("val.json"))


class Answers:
    """Predicts what is listed for a picture."""

    def __init__(self, found: dict[str, list[Found]]) -> None:
        self.names = {0: "cat", 1: "dog"}
        self.config = Config()
        self.found = found

    def __call__(self, source: Path) -> Result:
        found = sorted(self.found[source.name], key=lambda one: -one[2])
        corners = torch.tensor([[x, 5, x + 10, 15] for _, x, _ in found], dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([score for _, _, score in found])
        labels = torch.tensor([label for label, _, _ in found], dtype=torch.long)
        masks = tuple(encode(Region(BLOCK, x, 5), *SIZE) for _, x, _ in found)
        return Result(Boxes(corners, scores, labels, SIZE), Masks(masks, SIZE), self.names, SIZE)


FOUND: dict[str, list[Found]] = {
    "1.png": [(0, 5, 0.5), (0, 30, 0.9), (1, 45, 0.9)],  # the first is right
    "2.png": [(1, 5, 0.5)],  # right
}


@pytest.mark.parametrize("shift", [-1, -(10**6), 2**53, 2**63, 10**30])
def test_ids_are_only_names(shift: int) -> None:
    plain = data(sample(1, block(0, 5, 1)), sample(2, block(1, 5, 2), block(1, 20, 3)))
    moved = replace(
        plain,
        category_ids=(1 + shift, 2 + shift),
        samples=tuple(
            replace(
                it,
                image_id=it.image_id + shift,
                instances=tuple(replace(one, annotation_id=one.annotation_id + shift) for one in it.instances),
            )
            for it in plain.samples
        ),
    )
    expected = examine(plain, Answers(FOUND))
    assert 0 < expected[0].segm.AP < 1
    assert examine(moved, Answers(FOUND)) == expected


@pytest.mark.parametrize(
    ("federated", "cat", "dog", "counted"),
    [
        (None, 0.5, 0.5, 4),
        (Federated(frozenset({1}), frozenset()), 0.5, 0.5, 4),  # looked for and not there: a wrong prediction
        (Federated(frozenset(), frozenset()), 0.5, 1.0, 3),  # nobody looked for dogs in the first picture
        (Federated(frozenset(), frozenset({0})), 1.0, 1.0, 3),  # nor marked all of its cats
    ],
)
def test_lvis_rule(federated: Federated | None, cat: float, dog: float, counted: int) -> None:
    scores = evaluate(data(sample(1, block(0, 5, 1), federated=federated), sample(2, block(1, 5, 2))), Answers(FOUND))
    for per_class in (scores.bbox_per_class, scores.segm_per_class):
        assert pytest.approx((cat, dog)) == (per_class["cat"].AP, per_class["dog"].AP)
    assert scores.detections == counted
    assert any("LVIS" in note for note in scores.notes) == (federated is not None)


def test_a_class_without_objects_does_not_stop_val() -> None:
    truth = data(sample(1, block(0, 5, 1)))
    matched, notes = match_classes({0: "cat", 1: "cow"}, truth)
    assert matched == {0: 1}
    assert any("no object" in note and "'dog'" in note for note in notes)
    with pytest.raises(DataError, match=r"lacks the classes 'cat'; .*'cat' is spelled 'Cat' there"):
        match_classes({0: "Cat", 1: "cow"}, truth)
