"""Detection: hand-made logits, and a simple loop over all pairs of location and class."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from condinst.inference.detect import NONE, candidates, detect, detect_fixed, each_image, with_filters
from condinst.inference.select import KeepBoxes, keep_boxes, keep_boxes_by_products
from condinst.model.condinst import filter_layout
from condinst.settings.model import MaskBranchConfig, ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import STRIDES, Detections, HeadOutput, NetworkOutput

SIDES = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))  # P3–P7 of a 64×96 input
MODEL = ModelConfig(classes=("a", "b", "c"), mask_branch=MaskBranchConfig(features=4))
FILTERS = filter_layout(MODEL).count
KEEP = partial(keep_boxes, classes=len(MODEL.classes))


def network_output(images: int = 1, seed: int = 0, class_shift: float = -2.0) -> NetworkOutput:
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(images, channels, h, w, generator=generator) for h, w in SIDES)

    head = HeadOutput(
        tuple(level * 2 + class_shift for level in maps(3)),
        tuple(level.abs() * 2 for level in maps(4)),
        maps(1),
        maps(FILTERS),
    )
    return NetworkOutput(head, torch.randn(images, 4, 8, 12, generator=generator), None)


def silent() -> NetworkOutput:
    output = network_output()
    return output._replace(head=output.head._replace(class_logits=tuple(x * 0 - 20 for x in output.head.class_logits)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("root", [True, False])
def test_candidates_by_a_naive_loop(root: bool) -> None:
    head = network_output(images=2).head
    config = DetectConfig(score_threshold=0.2, candidates_per_level=7, score_root=root)
    for image in range(2):
        expected = []
        for level, stride in enumerate(STRIDES):
            rows = []
            for y, x in torch.cartesian_prod(*map(torch.arange, SIDES[level])).reshape(-1, 2).tolist():
                for label in range(3):
                    of_class = sigmoid(head.class_logits[level][image, label, y, x].item())
                    product = of_class * sigmoid(head.centerness_logits[level][image, 0, y, x].item())
                    rank, score = (product, math.sqrt(product)) if root else (of_class, product)
                    left, top, right, bottom = (head.distances_in_strides[level][image, :, y, x] * stride).tolist()
                    px, py = x * stride + stride // 2, y * stride + stride // 2
                    if rank > 0.2:
                        rows.append((rank, score, label, px, py, level, px - left, py - top, px + right, py + bottom))
            expected += sorted(rows, reverse=True)[:7]
        found = with_filters(
            NetworkOutput(head, head.filters[0], None), image, each_image(candidates(head, config))[image]
        )
        assert len(found.scores) == len(expected) > 14
        assert found.labels.tolist() == [row[2] for row in expected]
        assert found.levels.tolist() == [row[5] for row in expected]
        assert torch.allclose(found.scores, torch.tensor([row[1] for row in expected]), atol=1e-6)
        assert found.locations.tolist() == [[row[3], row[4]] for row in expected]
        assert torch.allclose(found.boxes, torch.tensor([row[6:] for row in expected]), atol=1e-4)
        for row in range(len(expected)):
            level, (x, y) = int(found.levels[row]), (found.locations[row] / STRIDES[found.levels[row]]).long().tolist()
            assert torch.equal(found.filters[row], head.filters[level][image, :, y, x])


def test_equal_scores_come_in_the_order_of_locations() -> None:
    output = network_output()
    head = output.head._replace(
        class_logits=tuple(torch.zeros_like(x) for x in output.head.class_logits),
        centerness_logits=tuple(torch.zeros_like(x) for x in output.head.centerness_logits),
    )
    found = candidates(head, DetectConfig(candidates_per_level=4))
    assert found.labels[0, :4].tolist() == [0, 1, 2, 0]
    assert found.locations[0, :4].tolist() == [[4, 4], [4, 4], [4, 4], [12, 4]]


@pytest.mark.parametrize("nms", ["box", "mask", "matrix"])
def test_a_batch_equals_its_images(nms: str) -> None:
    output = network_output(images=3)
    config = DetectConfig(nms=nms, score_threshold=0.1, max_detections=20)  # type: ignore[arg-type]
    together = detect(output, MODEL, config)
    for image in range(3):
        head = HeadOutput(*(tuple(level[image : image + 1] for level in field) for field in output.head))
        (alone,) = detect(NetworkOutput(head, output.mask_features[image : image + 1], None), MODEL, config)
        assert len(alone.scores) > 3
        assert alone.labels.tolist() == together[image].labels.tolist()
        assert torch.allclose(alone.scores, together[image].scores, atol=1e-6)
        assert (alone.scores.diff() <= 0).all()


@pytest.mark.parametrize("nms", ["box", "mask", "matrix"])
def test_nothing_found(nms: str) -> None:
    (found,) = detect(silent(), MODEL, DetectConfig(nms=nms))  # type: ignore[arg-type]
    assert [tuple(field.shape) for field in found] == [(0, 4), (0,), (0,), (0, 2), (0,), (0, FILTERS)]


@pytest.mark.parametrize("nms", ["mask", "matrix"])
def test_suppression_by_masks_sees_masks_not_boxes(nms: str) -> None:
    """Three candidates, one class: two draw the left half, one the right half; all boxes are the same."""
    output = silent()
    head = output.head
    filters = torch.zeros(FILTERS)
    filters[-1] = -0.5  # last bias
    for x, sign in ((2, 1.0), (3, 1.0), (8, -1.0)):
        head.class_logits[0][0, 1, 3, x] = 3.0 - x / 10
        head.centerness_logits[0][0, 0, 3, x] = 3.0
        head.filters[0][0, :, 3, x] = filters
        weights = head.filters[0][0, :, 3, x]
        weights[2] = sign * 8  # first layer: hidden unit 0 is ±8 times mask feature 0
        weights[6 * 8] = 1  # second layer passes it on
        weights[6 * 8 + 64] = 1  # and the third
        head.distances_in_strides[0][0, :, 3, x] = torch.tensor([x + 0.5, 3.5, 11.5 - x, 4.5])
    output.mask_features[0, 0] = torch.where(torch.arange(12) < 6, 1.0, -1.0)
    (found,) = detect(output, MODEL, DetectConfig(nms=nms, nms_threshold=0.5, score_threshold=0.5))  # type: ignore[arg-type]
    assert found.locations.tolist() == [[20, 28], [68, 28]]
    (by_box,) = detect(output, MODEL, DetectConfig(nms="box", nms_threshold=0.5, score_threshold=0.5))
    assert by_box.locations.tolist() == [[20, 28]]


class Fixed(nn.Module):
    """`detect_fixed` with tensors in and out, as an exporter records it."""

    def __init__(self, config: DetectConfig, keep: KeepBoxes) -> None:
        super().__init__()
        self.config, self.keep = config, keep

    def forward(self, head: HeadOutput, mask_features: Tensor) -> Detections:
        return detect_fixed(NetworkOutput(HeadOutput(*head), mask_features, None), self.config, self.keep)


def recorded(output: NetworkOutput, config: DetectConfig, keep: KeepBoxes) -> Detections:
    """The answer of a program that torch.export recorded for one image, with any number of images."""
    one = HeadOutput(*(tuple(level[:1].repeat(2, 1, 1, 1) for level in field) for field in output.head))
    batch = torch.export.Dim.DYNAMIC
    shapes = (HeadOutput(*(tuple({0: batch} for _ in field) for field in one)), {0: batch})
    inputs = (one, output.mask_features[:1].repeat(2, 1, 1, 1))
    program = torch.export.export(Fixed(config, keep), inputs, dynamic_shapes=shapes, strict=False)
    return Detections(*program.module()(output.head, output.mask_features))


def check_fixed(fixed: Detections, expected: list[Detections], most: int, ordered: bool = True) -> None:
    """Every row of `fixed` up to the count of an image is the row of `detect`, and the others hold nothing."""
    assert fixed.boxes.shape == (len(expected), most, 4)
    for image, wanted in enumerate(expected):
        rows = Detections(*(field[image] for field in fixed))
        count = len(wanted.scores)
        assert (rows.scores > NONE).tolist() == [True] * count + [False] * (most - count)
        found, theirs = (
            [tuple(map(str, row)) for row in zip(*(field[:count].tolist() for field in some), strict=True)]
            for some in (rows, wanted)
        )
        assert (found == theirs) if ordered else (sorted(found) == sorted(theirs))
        assert rows.scores[count:].eq(-1).all()
        assert rows.labels[count:].eq(-1).all()
        assert not any(field[count:].any() for field in (rows.boxes, rows.locations, rows.levels, rows.filters))


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
@pytest.mark.parametrize(
    "config",
    [
        DetectConfig(score_threshold=0.1, max_detections=20),
        DetectConfig(score_threshold=0.0, nms_threshold=0.0, max_detections=10),
        DetectConfig(score_threshold=0.0, nms_threshold=1.0, max_detections=300),
        DetectConfig(score_threshold=0.3, max_detections=2000),  # more than there are candidates
        DetectConfig(score_threshold=0.2, candidates_per_level=5, max_detections=12, score_root=False),
        DetectConfig(score_threshold=1.0),  # nothing is above
    ],
)
def test_fixed_shapes_hold_the_same_instances(config: DetectConfig, keep: KeepBoxes) -> None:
    output = network_output(images=3)
    expected = detect(output, MODEL, config)
    check_fixed(detect_fixed(output, config, keep), expected, config.max_detections)
    assert {len(found.scores) > 3 for found in expected} == {config.score_threshold < 1}


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
def test_a_recorded_program_holds_the_same_instances(keep: KeepBoxes) -> None:
    """For images that find much, little and nothing, in one batch. The example had other images."""
    config = DetectConfig(score_threshold=0.1, candidates_per_level=30, max_detections=25)
    parts = [network_output(seed=1), network_output(seed=2, class_shift=-4.0), silent(), network_output(seed=3)]
    heads = zip(*(part.head for part in parts), strict=True)
    head = HeadOutput(*(tuple(map(torch.cat, zip(*field, strict=True))) for field in heads))
    output = NetworkOutput(head, torch.cat([part.mask_features for part in parts]), None)
    expected = detect(output, MODEL, config)
    assert [len(found.scores) for found in expected][::2] == [25, 0]
    check_fixed(recorded(output, config, keep), expected, 25)


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
def test_fixed_shapes_with_equal_scores(keep: KeepBoxes) -> None:
    """All scores are equal. `detect` keeps all ties with the last instance, the fixed form as many as it has rows."""
    output = network_output()
    head = output.head._replace(
        class_logits=tuple(torch.zeros_like(x) for x in output.head.class_logits),
        centerness_logits=tuple(torch.zeros_like(x) for x in output.head.centerness_logits),
    )
    output = output._replace(head=head)
    few = DetectConfig(score_threshold=0.1, nms_threshold=1.0, max_detections=7)
    (ties,) = detect(output, MODEL, few)
    fixed = detect_fixed(output, few, keep)
    assert len(ties.scores) == 3 * sum(h * w for h, w in SIDES)
    assert (fixed.scores[0] == ties.scores[0]).all()
    everything = {tuple(box) for box in ties.boxes.tolist()}
    assert all(tuple(box) in everything for box in fixed.boxes[0].tolist())
    many = DetectConfig(score_threshold=0.1, nms_threshold=1.0, max_detections=500)
    check_fixed(detect_fixed(output, many, keep), [ties], 500, ordered=False)
