"""The training loss: each choice of formula against float64 computations, and properties of all choices."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.ops.bitmaps.packed_masks import pack, unpack
from condinst.settings.model import MaskHeadConfig, ModelConfig
from condinst.settings.training import BoxSupervisionConfig, LossConfig
from condinst.structures import (
    STRIDES,
    ColourPairs,
    FilterLayout,
    HeadOutput,
    Images,
    Losses,
    NetworkOutput,
    Norms,
    Targets,
    Truth,
)
from condinst.training.boxinst import find_pairs
from condinst.training.objective import draw_masks, objective
from condinst.training.sampling import choose_positives
from condinst.training.targets import assign, measure_norms

SIDE = 128
LEVELS = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
LAYOUT = FilterLayout(features=2, width=3)


def make_output(
    images: int = 2, classes: int = 3, semantic: bool = False, layout: FilterLayout = LAYOUT
) -> NetworkOutput:
    torch.manual_seed(0)

    def maps(channels: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(images, channels, *size).requires_grad_() for size in LEVELS)

    distances = tuple((level.detach().abs() * 2).requires_grad_() for level in maps(4))
    head = HeadOutput(maps(classes), distances, maps(1), maps(layout.count))
    features = torch.randn(images, layout.features, *LEVELS[0]).requires_grad_()
    logits = torch.randn(images, classes, *LEVELS[0]).requires_grad_() if semantic else None
    return NetworkOutput(head, features, logits)


def make_truths(stride: int = 4, classes: int = 3, instances: tuple[int, ...] = (4, 2)) -> tuple[Truth, ...]:
    """Rectangles of several sizes; pixel masks sampled at [s/2::s]."""
    torch.manual_seed(3)
    truths = []
    for count in instances:
        corners = (torch.rand(count, 2) * 60).round()
        boxes = torch.cat((corners, corners + torch.linspace(18, 66, max(count, 1))[:count, None].round()), dim=1)
        pixels = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(pixels, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        labels = torch.arange(count) % classes
        semantic = torch.full((16, 16), -1)
        for mask, label in zip(pixels.flip(0), labels.flip(0), strict=True):
            semantic[mask[4::8, 4::8]] = label
        masks = pixels[:, stride // 2 :: stride, stride // 2 :: stride]
        has_mask = torch.ones(count, dtype=torch.bool)
        truths.append(Truth(boxes, labels, (boxes[:, :2] + boxes[:, 2:]) / 2, *pack(masks), semantic, has_mask))
    return tuple(truths)


def make_targets(stride: int = 4, classes: int = 3, instances: tuple[int, ...] = (4, 2)) -> Targets:
    truths = make_truths(stride, classes, instances)
    return assign(truths, LEVELS, ModelConfig().size_ranges, classes, 1.5)


def whole_masks(packed: Truth | Targets, side: int) -> Tensor:
    """All masks (M, side, side)."""
    return unpack(packed.mask_pixels, packed.mask_places, torch.arange(len(packed.mask_places)), (side, side))


def run(
    output: NetworkOutput,
    targets: Targets,
    config: LossConfig,
    norms: Norms | None = None,
    mask_head: MaskHeadConfig | None = None,
    layout: FilterLayout = LAYOUT,
    most: int = 500,
    seed: int = 0,
    pairs: ColourPairs | None = None,
) -> Losses:
    chosen = choose_positives(output.head, targets, "random", most, torch.Generator().manual_seed(seed))
    model = ModelConfig(mask_head=mask_head or MaskHeadConfig(width=3))
    masks = draw_masks(output, targets, chosen, layout, model)
    return objective(output, targets, norms or measure_norms(targets), masks, pairs, config)


def make_pairs(stride: int = 4, images: int = 2) -> ColourPairs:
    """Those of pictures of few shades."""
    generator = torch.Generator().manual_seed(4)
    shades = torch.randint(0, 2, (images, 3, SIDE // stride, SIDE // stride), generator=generator) * 4.0
    tensor = shades.repeat_interleave(stride, 2).repeat_interleave(stride, 3) + 90
    sizes = ((SIDE, SIDE),) * images
    model = ModelConfig(
        pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1), mask_head=MaskHeadConfig.model_validate({"mask_out_stride": stride})
    )
    return find_pairs(Images(tensor, sizes, sizes), model, BoxSupervisionConfig())


def mixed_targets(stride: int = 4, masked: tuple[bool, ...] = (True, False, False, True, False, True)) -> Targets:
    return make_targets(stride)._replace(has_mask=torch.tensor(masked))


def as_rows(levels: tuple[Tensor, ...]) -> np.ndarray:
    """(N, C, h, w) of all levels → (N, L, C) float64."""
    return np.concatenate([m.detach().double().flatten(2).numpy().transpose(0, 2, 1) for m in levels], axis=1)


def entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """−t ln σ(x) − (1 − t) ln(1 − σ(x))."""
    return target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits)


def plain_box(kind: str, d: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Loss and IoU of one positive; distances are left, top, right, bottom."""
    area = (d[0] + d[2]) * (d[1] + d[3])
    wanted = (t[0] + t[2]) * (t[1] + t[3])
    low, high = np.minimum(d, t), np.maximum(d, t)
    common, hull = (low[0] + low[2]) * (low[1] + low[3]), (high[0] + high[2]) * (high[1] + high[3])
    union = area + wanted - common
    iou = (common + 1) / (union + 1)
    absolute = np.abs(d - t)
    smooth = np.where(absolute < 1, absolute**2 / 2, absolute - 0.5).sum()
    outside = (hull - union) / hull
    losses = {
        "giou": 1 - iou + outside,
        "plain_giou": 1 - common / union + outside,
        "iou": -math.log(iou),
        "smooth_l1": smooth,
    }
    return losses[kind], iou


def plain_logits(features: np.ndarray, filters: np.ndarray, location: np.ndarray, scale: float) -> np.ndarray:
    """Depth 3, width 3, two features, relative coordinates, at stride 8."""
    v, u = np.mgrid[: features.shape[1], : features.shape[2]]
    values = np.stack([(location[0] - (8 * u + 4)) / scale, (location[1] - (8 * v + 4)) / scale, *features])
    weights = np.split(filters, np.cumsum([12, 9, 3, 3, 3]))
    for layer, outputs in enumerate((3, 3, 1)):
        weight, bias = weights[layer].reshape(outputs, -1), weights[3 + layer]
        values = np.tensordot(weight, values, 1) + bias[:, None, None]
        values = np.maximum(values, 0) if layer < 2 else values
    return values[0]


def all_places() -> list[tuple[int, int, float]]:
    """Pixel (x, y) and coordinate scale of every location."""
    grids = [
        [(x * s + s // 2, y * s + s // 2, scale) for y in range(h) for x in range(w)]
        for (h, w), s, scale in zip(LEVELS, STRIDES, ModelConfig().coordinate_scales, strict=True)
    ]
    return list(itertools.chain.from_iterable(grids))


def plain(output: NetworkOutput, targets: Targets, config: LossConfig) -> dict[str, float]:
    """The unweighted terms by loops over positives, with masks at stride 8."""
    classes = output.head.class_logits[0].shape[1]
    logits = as_rows(output.head.class_logits)
    p = 1 / (1 + np.exp(-logits))
    one_hot = np.eye(classes + 1)[targets.labels.numpy()][..., :-1]
    cross = entropy(logits, one_hot)
    right = np.where(one_hot == 1, p, 1 - p)
    focal = np.where(one_hot == 1, 0.25, 0.75) * (1 - right) ** 2 * cross
    distances, quality, filters = (as_rows(levels) for levels in output.head[1:])
    box = quality_loss = mask = 0.0
    positives = [tuple(at) for at in (targets.instance_index >= 0).nonzero().tolist()]
    places = all_places()
    weights = 0.0
    for image, at in positives:
        loss, iou = plain_box(
            config.box, distances[image, at], targets.distances_in_strides[image, at].double().numpy()
        )
        center = targets.quality[image, at].item()
        weight, wanted = (center, center) if config.quality == "centerness" else (1.0, iou)
        box, weights = box + weight * loss, weights + weight
        quality_loss += entropy(quality[image, at, 0], wanted)
        *location, scale = places[at]
        features = output.mask_features[image].detach().double().numpy()
        logits = plain_logits(features, filters[image, at], np.array(location), scale)
        drawn = 1 / (1 + np.exp(-logits))
        truth = whole_masks(targets, 16)[targets.instance_index[image, at]].double().numpy()
        dice = 1 - 2 * (drawn * truth).sum() / ((drawn**2).sum() + truth.sum() + 1e-5)
        both = {"dice": dice, "bce": entropy(logits, truth).mean()}
        mask += both[config.mask] if config.mask != "both" else sum(both.values())
    count = len(positives)
    return {
        "classification": (focal if config.classification == "focal" else cross).sum() / count,
        "box": box / weights,
        "quality": quality_loss / count,
        "mask": mask / count,
        "projection": 0.0,
        "pairwise": 0.0,
        "semantic": 0.0,
    }


CHOICES = [
    LossConfig(),
    LossConfig(classification="cross_entropy"),
    LossConfig(box="iou", quality="iou"),
    LossConfig(box="smooth_l1", mask="bce"),
    LossConfig(box="plain_giou"),
    LossConfig(box="smooth_l1", quality="iou", mask="both"),
    LossConfig(box="iou"),
]


@pytest.mark.parametrize("config", CHOICES, ids=lambda c: f"{c.classification}-{c.box}-{c.quality}-{c.mask}")
def test_plain_computation(config: LossConfig) -> None:
    output, targets = make_output(), make_targets(stride=8)
    found = run(output, targets, config, mask_head=MaskHeadConfig(width=3, mask_out_stride=8))
    expected = plain(output, targets, config)
    assert measure_norms(targets).positives > 20
    assert {name: value.item() for name, value in found._asdict().items()} == pytest.approx(expected, rel=1e-4)


def plain_disagreement(logits: np.ndarray, box: np.ndarray, pairs: ColourPairs, image: int) -> np.ndarray:
    """Of every pair that counts, once from each pixel in the box."""
    p = 1 / (1 + np.exp(-logits))
    found = []
    for counts, sign in ((pairs.from_here, 1), (pairs.from_there, -1)):
        for direction, (down, right) in enumerate(pairs.steps):
            for row, column in counts[image, direction].nonzero().tolist():
                here, there = ((row, column), (row + down, column + right))[::sign]
                if box[here]:
                    a, b = p[here], p[there]
                    found.append(-math.log(a * b + (1 - a) * (1 - b)))
    return np.array(found)


@pytest.mark.parametrize("masked", ["mixed", "none", "all"])
def test_supervision_by_boxes(masked: str) -> None:
    """Each positive counts once, by dice or by projection; the pairs' mean by the share of those without a mask."""
    output, pairs = make_output(), make_pairs(8)
    targets = mixed_targets(8) if masked == "mixed" else mixed_targets(8, (masked == "all",) * 6)
    dice, projections, disagreements = [], [], []
    filters, places = as_rows(output.head.filters), all_places()

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return 1 - 2 * (one * other).sum() / ((one**2).sum() + (other**2).sum() + 1e-5)

    for image, at in (targets.instance_index >= 0).nonzero().tolist():
        *location, scale = places[at]
        features = output.mask_features[image].detach().double().numpy()
        logits = plain_logits(features, filters[image, at], np.array(location), scale)
        drawn = 1 / (1 + np.exp(-logits))
        instance = targets.instance_index[image, at]
        truth = whole_masks(targets, 16)[instance].double().numpy()
        if targets.has_mask[instance]:
            dice.append(apart(drawn, truth))
        else:
            projections.append(sum(apart(drawn.max(axis), truth.max(axis)) for axis in (0, 1)))
            disagreements.append(plain_disagreement(logits, truth > 0, pairs, image))
    count = len(dice) + len(projections)
    assert (len(dice) > 5, len(projections) > 5) == {"mixed": (1, 1), "none": (0, 1), "all": (1, 0)}[masked]
    found = run(output, targets, LossConfig(), mask_head=MaskHeadConfig(width=3, mask_out_stride=8), pairs=pairs)
    assert found.mask.item() == pytest.approx(sum(dice) / count, rel=1e-4)
    assert found.projection.item() == pytest.approx(sum(projections) / count, rel=1e-4)
    mean = np.concatenate(disagreements).mean() if disagreements else 0
    assert found.pairwise.item() == pytest.approx(mean * len(projections) / count, rel=1e-4)
    assert (mean > 0) == (masked != "all")


def test_boxes_change_the_mask_terms_only() -> None:
    output, pairs = make_output(semantic=True), make_pairs()
    masks, boxes = (run(output, mixed_targets(4, (has,) * 6), LossConfig(), pairs=pairs) for has in (True, False))
    for name in ("classification", "box", "quality", "semantic"):
        assert getattr(masks, name).item() == getattr(boxes, name).item()


def test_lower_precision_reaches_no_loss() -> None:
    """Half-precision maps, and autocast around it all: float32 terms, as near as the maps are."""
    output, targets, pairs = make_output(semantic=True), mixed_targets(), make_pairs()
    head = HeadOutput(*(tuple(level.bfloat16() for level in levels) for levels in output.head))
    half = NetworkOutput(head, output.mask_features.bfloat16(), output.semantic_logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(half, targets, LossConfig(), pairs=pairs)
    for mine, exact in zip(found, run(output, targets, LossConfig(), pairs=pairs), strict=True):
        assert mine.dtype == torch.float32
        assert mine.item() == pytest.approx(exact.item(), rel=0.03)


def test_weights_multiply_and_zero_keeps_the_graph() -> None:
    output, targets, pairs = make_output(semantic=True), mixed_targets(), make_pairs()
    once = run(output, targets, LossConfig(), pairs=pairs)
    names = ("classification", "box", "quality", "mask", "projection", "pairwise", "semantic")
    assert once._fields == names
    assert all(term > 0 for term in once)
    config = LossConfig.model_validate({f"{name}_weight": n for n, name in enumerate(names)})
    weighted = run(output, targets, config, pairs=pairs)
    for factor, (one, other) in enumerate(zip(once, weighted, strict=True)):
        assert other.item() == pytest.approx(factor * one.item(), rel=1e-5)
    weighted.classification.backward()
    assert output.head.class_logits[0].grad is not None
    assert not output.head.class_logits[0].grad.any()


def test_losses_are_divided_by_the_given_norms() -> None:
    """The engine passes means over processes, so twice the norm halves the term; the mask's mean is its own."""
    output, targets = make_output(), make_targets()
    own = measure_norms(targets)
    once = run(output, targets, LossConfig(), own)
    halved = run(output, targets, LossConfig(), Norms(own.positives * 2, own.quality * 4))
    factors = {"classification": 2, "box": 4, "quality": 2, "mask": 1}
    for name, factor in factors.items():
        assert getattr(once, name).item() == pytest.approx(factor * getattr(halved, name).item(), rel=1e-5)
    iou = LossConfig(quality="iou")
    ratio = run(output, targets, iou, own).box / run(output, targets, iou, Norms(own.positives * 2, own.quality)).box
    assert ratio.item() == pytest.approx(2)


def test_semantic_by_formula() -> None:
    output, targets = make_output(semantic=True), make_targets()
    assert output.semantic_logits is not None
    logits = output.semantic_logits.detach().double().numpy()
    labels = targets.semantic.numpy()
    total = 0.0
    for image, label, y, x in np.ndindex(logits.shape):
        p = 1 / (1 + math.exp(-logits[image, label, y, x]))
        right, alpha = (p, 0.25) if labels[image, y, x] == label else (1 - p, 0.75)
        total -= alpha * (1 - right) ** 2 * math.log(right)
    found = run(output, targets, LossConfig()).semantic
    assert found.item() == pytest.approx(total / (labels >= 0).sum(), rel=1e-4)


def leaves(output: NetworkOutput) -> list[Tensor]:
    maps = [level for part in output.head for level in part]
    return [*maps, output.mask_features, *([output.semantic_logits] if output.semantic_logits is not None else [])]


@pytest.mark.parametrize("config", CHOICES, ids=lambda c: f"{c.classification}-{c.box}-{c.quality}-{c.mask}")
@pytest.mark.parametrize(("instances", "has_mask"), [((0, 0), True), ((0, 3), True), ((0, 3), False)])
def test_pictures_without_instances(config: LossConfig, instances: tuple[int, ...], has_mask: bool) -> None:
    """Finite losses, and a gradient for every map of the network; zero where nothing asks for another."""
    output, targets = make_output(semantic=True), make_targets(instances=instances)
    targets = targets._replace(has_mask=torch.full_like(targets.has_mask, has_mask))
    found = run(output, targets, config, pairs=make_pairs())
    assert all(term.isfinite() for term in found)
    sum(found).backward()  # type: ignore[union-attr]
    for leaf in leaves(output):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    if not any(instances):
        assert [term.item() for term in found[1:6]] == [0, 0, 0, 0, 0]
        assert not output.mask_features.grad.any()  # type: ignore[union-attr]
        assert output.head.class_logits[0].grad.any()  # type: ignore[union-attr]
    else:
        assert output.mask_features.grad.any()  # type: ignore[union-attr]


def test_instances_that_no_location_sees() -> None:
    """Too small for any location's square: zero positives, though there are instances."""
    truth = Truth(
        torch.tensor([[1.0, 1, 3, 3]]),
        torch.tensor([0]),
        torch.tensor([[2.0, 2]]),
        *pack(torch.zeros(1, 32, 32, dtype=torch.bool)),
        torch.full((16, 16), -1),
        torch.ones(1, dtype=torch.bool),
    )
    targets = assign((truth,), LEVELS, ModelConfig().size_ranges, 3, 1.5)
    assert measure_norms(targets).positives == 0
    output = make_output(images=1)
    found = run(output, targets, LossConfig())
    sum(found).backward()  # type: ignore[union-attr]
    assert all(term.isfinite() for term in found)
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves(output))


@pytest.mark.parametrize("stride", [8, 4, 2])
@pytest.mark.parametrize(("depth", "coordinates"), [(1, "relative"), (3, "absolute"), (2, "none")])
def test_mask_heads(stride: int, depth: int, coordinates: str) -> None:
    settings = MaskHeadConfig.model_validate(
        {"width": 3, "depth": depth, "coordinates": coordinates, "mask_out_stride": stride}
    )
    layout = FilterLayout(2, 0 if coordinates == "none" else 2, depth, 3)
    output, targets = make_output(layout=layout), make_targets(stride)
    for mask in ("dice", "bce"):
        found = run(output, targets, LossConfig(mask=mask), mask_head=settings, layout=layout).mask
        assert 0 < found.item() < 5
    found.backward()
    assert output.mask_features.grad is not None
    assert output.mask_features.grad.any()
    assert output.head.filters[0].grad is not None


@pytest.mark.parametrize("classes", [1, 1000])
def test_class_counts(classes: int) -> None:
    output = make_output(classes=classes, semantic=True)
    targets = make_targets(classes=classes)
    found = run(output, targets, LossConfig())
    sum(found).backward()  # type: ignore[union-attr]
    assert all(term.isfinite() for term in found)
    assert found.classification.item() == pytest.approx(
        plain(output, make_targets(8, classes), LossConfig())["classification"], rel=1e-4
    )


def test_some_positives_are_drawn() -> None:
    """The same generator draws the same ones; other seeds others; with room for all, none is left out."""
    output, targets = make_output(), make_targets()
    count = int(measure_norms(targets).positives)
    few = [run(output, targets, LossConfig(), most=5, seed=seed).mask.item() for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]
    every = [run(output, targets, LossConfig(), most=most).mask.item() for most in (count, 10 * count)]
    assert every[0] == every[1]
    fewer = run(output, targets, LossConfig(), most=5)
    assert fewer.box.item() == run(output, targets, LossConfig()).box.item()
    fewer.mask.backward()
    touched = sum((level.grad != 0).any(1).sum().item() for level in output.head.filters if level.grad is not None)
    assert touched == 5


def test_mirrored() -> None:
    """Mirrored maps, left and right distances exchanged and the weight of dx negated, lose the same."""
    output, truths = make_output(semantic=True), make_truths(stride=8)
    mask_head = MaskHeadConfig(width=3, mask_out_stride=8)

    def flip(levels: tuple[Tensor, ...], order: list[int] | None = None) -> tuple[Tensor, ...]:
        return tuple((level if order is None else level[:, order]).flip(3) for level in levels)

    filters = [level.clone() for level in output.head.filters]
    for level in filters:
        level[:, 0:12:4] *= -1
    head = HeadOutput(
        flip(output.head.class_logits),
        flip(output.head.distances_in_strides, [2, 1, 0, 3]),
        flip(output.head.centerness_logits),
        flip(tuple(filters)),
    )
    assert output.semantic_logits is not None
    mirrored = NetworkOutput(head, output.mask_features.flip(3), output.semantic_logits.flip(3))
    turned = tuple(
        Truth(
            (truth.boxes * torch.tensor([-1, 1, -1, 1]) + torch.tensor([SIDE, 0, SIDE, 0]))[:, [2, 1, 0, 3]],
            truth.labels,
            truth.centroids * torch.tensor([-1, 1]) + torch.tensor([SIDE, 0]),
            *pack(whole_masks(truth, 16).flip(2)),
            truth.semantic.flip(1),
            truth.has_mask,
        )
        for truth in truths
    )
    targets = [assign(t, LEVELS, ModelConfig().size_ranges, 3, 1.5) for t in (truths, turned)]
    plain_losses = run(output, targets[0], LossConfig(), mask_head=mask_head)
    mirrored_losses = run(mirrored, targets[1], LossConfig(), mask_head=mask_head)
    for one, other in zip(plain_losses, mirrored_losses, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-5)
    assert sum(term.item() > 0 for term in plain_losses) == 5
