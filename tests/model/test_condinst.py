"""The whole network: one forward pass, one return type, the published sizes, gradients of all parameters."""

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condinst.errors import UsageError
from condinst.model.condinst import CondInst, filter_layout
from condinst.ops.bitmaps.packed_masks import pack
from condinst.settings.model import ModelConfig
from condinst.settings.training import LossConfig
from condinst.structures import NetworkOutput, Targets, Truth
from condinst.training.objective import draw_masks, objective
from condinst.training.sampling import choose_positives
from condinst.training.targets import assign, measure_norms

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"
SMALL: dict[str, Any] = {
    "classes": ["cat", "dog"],
    "backbone": {"name": "mobilenetv2_035", "norm": "affine", "frozen_stages": 0},
    "fpn_channels": 16,
    "head": {"convs": 1, "channels": 16},
    "mask_branch": {"convs": 1, "channels": 8},
}
HEIGHT, WIDTH = 64, 96


def make(**settings: Any) -> CondInst:
    torch.manual_seed(0)
    merged = {k: SMALL.get(k, {}) | v if isinstance(v, dict) else v for k, v in settings.items()}
    return CondInst(ModelConfig.model_validate(SMALL | merged))


def check_shapes(output: NetworkOutput, classes: int, count: int, features: int, images: int = 2) -> None:
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    for levels, channels in zip(output.head, (classes, 4, 1, count), strict=True):
        assert [tuple(level.shape) for level in levels] == [(images, channels, *size) for size in sizes]
    assert output.mask_features.shape == (images, features, 8, 12)


def test_one_return_type_in_every_mode() -> None:
    model = make(semantic=True)
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    trained = model(images)
    check_shapes(trained, 2, 169, 8)
    assert trained.semantic_logits.shape == (2, 2, 8, 12)
    assert make()(images).semantic_logits is None
    with torch.no_grad():
        used = model.eval()(images)
    assert isinstance(used, NetworkOutput)
    check_shapes(used, 2, 169, 8)
    assert used.semantic_logits is None


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"mask_head": {"depth": 1}}, 11),
        ({"mask_head": {"depth": 4}}, 241),
        ({"mask_head": {"width": 16}, "mask_branch": {"features": 16}}, 593),
        ({"mask_head": {"coordinates": "none"}}, 153),
        ({"mask_head": {"coordinates": "absolute"}}, 169),
        ({"mask_head": {"coordinates": "only"}}, 105),
    ],
)
def test_the_controller_follows_the_layout(settings: dict[str, Any], count: int) -> None:
    model = make(**settings)
    assert model.layout == filter_layout(model.config)
    assert model.layout.count == count
    output = model(torch.randn(2, 3, HEIGHT, WIDTH))
    check_shapes(output, 2, count, model.layout.features)
    assert (model.mask_branch is None) == (model.layout.features == 0)


def targets_for(model: CondInst, output: NetworkOutput, truths: tuple[Truth, ...]) -> Targets:
    sizes = [tuple(level.shape[-2:]) for level in output.head.class_logits]
    classes = max(len(model.config.classes), 1)
    return assign(truths, sizes, model.config.size_ranges, classes, 1.5)


def make_truth(stride: int, empty: bool = False) -> Truth:
    """One rectangle for each of the levels that a picture of this size can have, unless `empty`."""
    boxes = torch.tensor([[4.0, 4, 44, 44], [0.0, 0, 96, 64]])[: 0 if empty else None]
    pixels = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(pixels, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    semantic = torch.where(pixels.any(0), 0, -1)[4::8, 4::8] if len(boxes) else torch.full((8, 12), -1)
    masks = pixels[:, stride // 2 :: stride, stride // 2 :: stride]
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    has_mask = torch.ones(len(boxes), dtype=torch.bool)
    return Truth(boxes, labels, (boxes[:, :2] + boxes[:, 2:]) / 2, *pack(masks), semantic, has_mask)


def lose(model: CondInst, truths: tuple[Truth, ...]) -> Tensor:
    torch.manual_seed(1)
    output = model(torch.randn(len(truths), 3, HEIGHT, WIDTH))
    targets = targets_for(model, output, truths)
    chosen = choose_positives(output.head, targets, "random", 500)
    config = model.config
    masks = draw_masks(output, targets, chosen, model.layout, config)
    terms = objective(output, targets, measure_norms(targets), masks, None, LossConfig())
    assert all(term.isfinite() for term in terms)
    total = torch.stack(list(terms)).sum()
    total.backward()
    return total.detach()


def without_gradient(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("semantic", [False, True])
@pytest.mark.parametrize("settings", [{}, {"mask_head": {"depth": 1, "coordinates": "none", "mask_out_stride": 2}}])
def test_every_parameter_receives_a_gradient(semantic: bool, settings: dict[str, Any]) -> None:
    model = make(semantic=semantic, **settings)
    with torch.no_grad():  # off the flat start, where distances of 0 stop the gradient at the ReLU
        model.head.distances.bias.fill_(1)
    stride = model.config.mask_head.mask_out_stride
    lose(model, (make_truth(stride), make_truth(stride)))
    assert without_gradient(model) == []
    still = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
    # the two largest levels have no positive in so small a picture, so nothing scales their distances
    assert set(still) <= {"head.scales"}
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("semantic", [False, True])
def test_pictures_without_instances(semantic: bool) -> None:
    """Finite losses and a gradient, zero or not, for every parameter: what DDP needs of each step."""
    model = make(semantic=semantic)
    lose(model, (make_truth(4, empty=True), make_truth(4, empty=True)))
    assert without_gradient(model) == []
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.head.class_logits.weight.grad is not None
    assert model.head.class_logits.weight.grad.any()


@pytest.mark.parametrize("classes", [1, 1000])
def test_class_counts(classes: int) -> None:
    model = make(classes=[str(n) for n in range(classes)], semantic=True)
    assert lose(model, (make_truth(4), make_truth(4, empty=True))).isfinite()
    assert without_gradient(model) == []


@pytest.mark.parametrize("stride", [8, 4, 2])
def test_mask_out_strides(stride: int) -> None:
    assert lose(make(mask_head={"mask_out_stride": stride}), (make_truth(stride),)).isfinite()


def test_no_mask_features() -> None:
    """Coordinates alone draw the masks (the paper's ablation); the mask branch makes nothing."""
    model = make(mask_head={"coordinates": "only"})
    assert lose(model, (make_truth(4),)).isfinite()
    assert without_gradient(model) == []


@torch.no_grad()
def test_a_batch_equals_its_pictures() -> None:
    model = make(semantic=True).double().eval()
    images = torch.randn(3, 3, HEIGHT, WIDTH, dtype=torch.float64)
    together = model(images)
    for index in range(3):
        alone = model(images[index : index + 1])
        assert torch.allclose(together.mask_features[index], alone.mask_features[0], rtol=1e-9, atol=1e-9)
        for one, other in zip(sum(together.head, ()), sum(alone.head, ()), strict=True):
            assert torch.allclose(one[index], other[0], rtol=1e-9, atol=1e-9)


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.skipif(not KEYS.is_dir(), reason=f"key lists not at {KEYS}")
@pytest.mark.parametrize(("name", "semantic"), [("CondInst_MS_R_50_3x", False), ("CondInst_MS_R_50_3x_sem", True)])
def test_published_tensors(name: str, semantic: bool) -> None:
    """Tensor for tensor the published shapes, the backbone's convolutions included (its norms are buffers there)."""
    published: Counter[tuple[int, ...]] = Counter()
    trainable = 0
    for line in (KEYS / f"{name}.txt").read_text().splitlines()[1:]:
        key, text, _, kind, grad = line.split("\t")
        shape = tuple(int(number) for number in text.strip("(),").split(",") if number.strip())
        trainable += (grad == "1") * prod(shape)
        if kind == "parameter" and ".scales." not in key:  # five there, one of five numbers here
            published[shape] += 1
    model = CondInst(ModelConfig(classes=tuple(str(n) for n in range(80)), semantic=semantic))
    mine = Counter(
        tuple(p.shape)
        for name, p in model.named_parameters()
        if name != "head.scales" and not (name.startswith("backbone.") and p.ndim == 1)
    )
    assert mine == published
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable


def test_published_counts_of_the_parts() -> None:
    """FPN, head and mask branch of the default configuration, counted by hand."""
    model = CondInst(ModelConfig(classes=tuple(str(n) for n in range(80)), semantic=True))
    conv = 256 * 256 * 9
    laterals = (512 + 1024 + 2048) * 256
    assert parameters(model.fpn) == laterals + 5 * conv + 8 * 256
    towers = 8 * (conv + 256 + 2 * 256)
    predictions = 256 * 9 * (80 + 4 + 1 + 169) + 80 + 4 + 1 + 169
    assert parameters(model.head) == towers + predictions + 5
    refine = 3 * (256 * 128 * 9 + 2 * 128)
    tower = 4 * (128 * 128 * 9 + 2 * 128)
    assert parameters(model.mask_branch) == refine + tower + 128 * 8 + 8
    assert model.semantic_head is not None
    assert parameters(model.semantic_head) == (256 + 128) * 128 * 9 + 4 * 128 + 128 * 80 + 80


@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "resnet18"])
def test_maps_made_again_give_the_same_gradients_for_less_memory(backbone: str) -> None:
    model = make(backbone={"name": backbone}).train()
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    gradients, kept = [], []
    for wanted in (False, True):
        model.set_recompute(wanted)
        model.zero_grad()
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(images)
        kept.append(sum(sizes.values()))
        sum(map.square().mean() for maps in output.head for map in maps).backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
    assert kept[1] < 0.7 * kept[0]


def test_a_transformer_s_own_switch_for_it() -> None:
    """timm wraps transformers in something that has none."""
    model = make(backbone={"name": "mvitv2_tiny"})
    for wanted in (True, False):
        model.set_recompute(wanted)
        assert {stage.grad_checkpointing for stage in model.backbone.body.model.stages} == {wanted}


def test_a_backbone_without_a_switch_for_it() -> None:
    model = make(backbone={"name": "twins_pcpvt_small"})
    model.set_recompute(False)
    with pytest.raises(UsageError, match=r"train\.recompute: backbone 'twins_pcpvt_small' cannot"):
        model.set_recompute(True)
    model.eval().train()


def test_only_training_makes_maps_again() -> None:
    model = make()
    model.set_recompute(True)
    assert model.backbone.body.grad_checkpointing
    assert not model.eval().backbone.body.grad_checkpointing
    assert model.train().backbone.body.grad_checkpointing


def test_norms_that_take_statistics_are_not_counted_twice() -> None:
    model = make(backbone={"norm": "batch"})
    model.set_recompute(False)
    with pytest.raises(UsageError, match=r"train\.recompute: .* set model.backbone.norm=affine"):
        model.set_recompute(True)
