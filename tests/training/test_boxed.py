"""Targets and losses of BlendMask and MEInst where no recorded numbers are: crops, semantic maps, and no positives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.engine.losses import prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.methods.choose import build_network, method_of
from condinst.ops.bitmaps.packed_masks import pack
from condinst.recipes import load_recipe
from condinst.structures import Images, Truth
from condinst.training.boxed.targets import BoxedTargets, crop_masks, paint_semantic

SIZE = (64, 96)
SMALL = {
    "blendmask": ["model.mask_branch.channels=8", "model.mask_branch.convs=1"],
    "meinst": ["model.meinst.code=5", "model.meinst.resolution=8"],
}
METHODS = tuple(SMALL)


def make_config(method: str) -> Config:
    base = load_recipe(f"{method}-r50-1x")
    common = ["model.backbone.name=resnet18", "model.backbone.stride_in_1x1=false", "model.fpn_channels=8"]
    head = ["model.head.channels=8", "model.head.convs=1", "model.head.distance_prior=1", "model.classes=[a,b,c]"]
    return base.with_overrides([*common, *head, *SMALL[method], "train.init=none"])


def make_truth(masks: Tensor, labels: list[int], boxes: Tensor | None = None, has_mask: bool = True) -> Truth:
    pixels, places = pack(masks)
    if boxes is None:
        boxes = torch.stack(
            (places[:, 0], places[:, 1], places[:, 0] + places[:, 2], places[:, 1] + places[:, 3]), 1
        ).float()
    nothing = torch.full([-(-side // 8) for side in SIZE], -1)
    flags = torch.full((len(labels),), has_mask)
    return Truth(boxes, torch.tensor(labels, dtype=torch.int64), boxes[:, :2] * 0, pixels, places, nothing, flags)


def blobs(count: int) -> Tensor:
    """Round masks of several sizes, some cut by the border."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    centres = torch.rand(count, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor(SIZE[::-1])
    radii = torch.linspace(3, 30, count)
    return torch.stack([(x - cx) ** 2 + 2 * (y - cy) ** 2 < r * r for (cx, cy), r in zip(centres, radii, strict=True)])


@pytest.mark.parametrize("side", [28, 56])
def test_a_crop_equals_that_of_the_whole_canvas(side: int) -> None:
    """Samples beyond the border of the picture, and boxes that do not enclose their masks, included."""
    masks = blobs(9)
    truth = make_truth(masks, [0] * 9)
    shifts = torch.tensor([[0.0, 0, 0, 0], [-3.3, 2.1, 4.7, -1.2], [5.5, 0, 9.25, 3]])
    for shift in shifts:
        boxes = truth.boxes + shift
        mine = crop_masks(truth.mask_pixels, truth.mask_places, boxes, torch.arange(9), side, SIZE)
        rows = torch.cat((torch.arange(9)[:, None].float(), boxes), dim=1)
        whole = roi_align(masks[:, None].float(), rows, side, 1.0, sampling_ratio=0, aligned=True)[:, 0] >= 0.5
        assert (mine != whole).sum() <= 2  # of rounding: a box moves with the rectangle
        assert mine.any(dim=(1, 2)).all()
    chosen = crop_masks(truth.mask_pixels, truth.mask_places, truth.boxes, torch.tensor([4]), side, SIZE)
    assert chosen.any(dim=(1, 2)).nonzero().tolist() == [[4]]


def test_semantic_map() -> None:
    """Later masks over earlier ones, at the pixels [::8, ::8]; filled boxes are none."""
    masks, labels = blobs(9), [0, 1, 2, 0, 1, 2, 0, 1, 2]
    expected = torch.zeros(SIZE, dtype=torch.int64)
    for mask, label in zip(masks, labels, strict=True):
        expected[mask] = label + 1
    painted = paint_semantic(make_truth(masks, labels), SIZE)
    assert torch.equal(painted, expected[::8, ::8])
    assert len(painted.unique()) == 4
    assert not paint_semantic(make_truth(masks, labels, has_mask=False), SIZE).any()
    padded = paint_semantic(make_truth(masks, labels), (96, 128))
    assert torch.equal(padded, F.pad(expected[::8, ::8], (0, 4, 0, 4)))


def make_batch(truths: list[Truth]) -> Batch:
    pictures = torch.randn(len(truths), 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 50
    return Batch(Images(pictures, (SIZE,) * len(truths), (SIZE,) * len(truths)), tuple(truths))


def losses_of(config: Config, model: Any, truths: list[Truth], seed: int = 0) -> dict[str, Tensor]:
    accelerator = make_accelerator(config)
    (part,) = prepare([make_batch(truths)], config, accelerator)
    return dict(step_losses(model, part, torch.Generator().manual_seed(seed), 0, config, accelerator))


def build(config: Config) -> Any:
    torch.manual_seed(0)
    model = build_network(config.model).train()
    if config.model.method == "meinst":
        cells = config.model.meinst.resolution**2
        model.mask_code.components.copy_(torch.linalg.qr(torch.randn(cells, config.model.meinst.code))[0].T)
    return model


NONE = torch.zeros(0, *SIZE, dtype=torch.bool)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)])
def test_empty_images(method: str, places: tuple[int, ...]) -> None:
    """They are negatives alone, wherever they stand; every parameter still has a gradient."""
    config = make_config(method)
    model = build(config)
    full, empty = make_truth(blobs(5), [0, 1, 2, 0, 1]), make_truth(NONE, [])
    losses = losses_of(config, model, [empty if place in places else full for place in range(2)])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["classification"] > 0
    assert (losses["mask"] > 0) == (len(places) < 2)
    assert (losses["box"] > 0) == (len(places) < 2)
    torch.stack(list(losses.values())).sum().backward()
    without = {name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None}
    assert not without
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    if len(places) == 2:
        assert not model.head.controller.weight.grad.any()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_of_negatives_does_not_change_the_other_losses(method: str) -> None:
    """Norms in evaluation mode, so that the images do not see each other."""
    config = make_config(method).with_overrides(["model.semantic=false"])
    model = build(config).eval()
    full, empty = make_truth(blobs(5), [0, 1, 2, 0, 1]), make_truth(NONE, [])
    alone, both = losses_of(config, model, [full]), losses_of(config, model, [full, empty])
    for term in ("box", "quality", "mask"):
        torch.testing.assert_close(alone[term], both[term], rtol=1e-5, atol=1e-6)
    assert both["classification"] > alone["classification"]


@pytest.mark.parametrize("method", METHODS)
def test_filled_boxes_teach_no_masks(method: str) -> None:
    config = make_config(method)
    losses = losses_of(config, build(config), [make_truth(blobs(5), [0, 1, 2, 0, 1], has_mask=False)])
    assert losses["mask"] == 0
    assert losses["box"] > 0


def test_the_soft_labels_are_drawn_by_the_generator() -> None:
    config = make_config("meinst")
    model, truths = build(config), [make_truth(blobs(5), [0, 1, 2, 0, 1])]
    one, again, other = (losses_of(config, model, truths, seed)["mask"] for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("method", METHODS)
def test_centres_of_boxes(method: str) -> None:
    """Locations near the centre of the box are positive, wherever the mask lies in the box."""
    config = make_config(method)
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, 5:8, 5:8] = True
    truth = make_truth(mask, [1], torch.tensor([[4.0, 4, 60, 60]]))
    targets: BoxedTargets = method_of(config.model).assign(None, (truth,), SIZE, config)
    positive = (targets.locations.instance_index[0, : 8 * 12] >= 0).reshape(8, 12).nonzero()
    assert positive.float().mean(dim=0).tolist() == [3.5, 3.5]
    assert targets.squares.sum() < 50
    counts = method_of(config.model).count(targets, config)
    assert counts.positives == (targets.locations.instance_index >= 0).sum()
    assert counts.masks == 1


def test_blended_masks_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of positives that are blended together does not matter."""
    from condinst.training.boxed import blendmask

    config = make_config("blendmask")
    truths = [make_truth(blobs(9), [0, 1, 2] * 3)]
    found = []
    for number in (256, 3):
        monkeypatch.setattr(blendmask, "POSITIVES_AT_ONCE", number)
        model = build(config)
        loss = losses_of(config, model, truths)["mask"]
        loss.backward()
        found.append((loss.detach(), model.head.controller.weight.grad, model.mask_branch.features.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert np.isfinite(float(found[0][0]))
