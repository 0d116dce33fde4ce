"""The masks of SOLOv2 and YOLACT on FCOS: sums of features, cut to the boxes with YOLACT."""

from pathlib import Path

import pytest
import torch

from condinst.config import Config
from condinst.errors import ModelError, UsageError
from condinst.inference.assemble import assemble
from condinst.inference.logits import draw_logits
from condinst.methods.choose import build_network, method_of
from condinst.ops.dynamic_mask_head import dynamic_mask_head, dynamic_mask_head_of_each
from condinst.ops.losses import box_cross_entropy
from condinst.ops.masks import aligned_bilinear
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig
from condinst.structures import Detections, FilterLayout, Images
from condinst.weights.folder import load_model, save_model

KINDS = {"solov2-fcos": FilterLayout(16, 0, 1, biases=False), "yolact-fcos": FilterLayout(16, 0, 1, 8, False, True)}


def make(method: str) -> Config:
    return Config.from_dict(
        {
            "model": {
                "method": method,
                "classes": ["cell"],
                "backbone": {"name": "mobilenetv2_035", "frozen_stages": 0},
                "fpn_channels": 16,
                "head": {"convs": 1, "channels": 16},
                "mask_branch": {"convs": 1, "channels": 16, "features": 16},
            }
        }
    )


@pytest.mark.parametrize("method", KINDS)
def test_masks_are_weighted_sums_of_the_features(method: str) -> None:
    torch.manual_seed(0)
    layout = KINDS[method]
    assert layout.count == 16
    features, filters = torch.randn(2, 16, 6, 8), torch.randn(5, 16, requires_grad=True)
    image_index = torch.tensor([0, 1, 1, 0, 1])
    places, scales = torch.zeros(5, 2), torch.ones(5)
    logits = dynamic_mask_head(features, filters, image_index, places, scales, layout, "none", 4)
    weights = filters.double().tanh() if layout.bounded else filters.double()
    wanted = torch.einsum("kf,kfhw->khw", weights, features.double()[image_index])
    assert torch.allclose(logits.double(), aligned_bilinear(wanted[:, None], 2)[:, 0], atol=1e-5)
    logits.square().sum().backward()
    assert filters.grad is not None
    assert filters.grad.abs().min() > 0
    several = filters.detach().expand(2, 5, 16)
    each = dynamic_mask_head_of_each(features, several, places.expand(2, 5, 2), scales.expand(2, 5), layout, "none")
    assert torch.allclose(each[0, 0].double(), wanted[0].detach(), atol=1e-5)


@pytest.mark.parametrize("method", KINDS)
def test_networks_have_the_features_of_their_method(method: str, tmp_path: Path) -> None:
    config = make(method)
    model = build_network(config.model).eval()
    output = model(torch.randn(1, 3, 64, 96))
    assert output.head.filters[0].shape == (1, 16, 8, 12)
    assert output.mask_features.min() >= 0  # a ReLU ends both
    save_model(model, config, tmp_path)
    again, settings = load_model(tmp_path)
    assert settings.model.method == method
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_weights_of_the_other_kinds_are_refused(tmp_path: Path) -> None:
    config = make("solov2-fcos")
    save_model(build_network(config.model), config, tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("method: solov2-fcos", "method: condinst"))
    with pytest.raises(ModelError, match=r"those of SOLOv2's masks on FCOS, the settings are for a CondInst"):
        load_model(tmp_path)


def test_masks_of_yolact_end_at_their_boxes() -> None:
    """Uncut masks, and the same masks inside the boxes: pixels whose centres lie in the box."""
    torch.manual_seed(0)
    config = make("yolact-fcos")
    model = build_network(config.model).eval()
    with torch.inference_mode():
        output = model(torch.randn(1, 3, 64, 96))
    boxes = torch.tensor([[10.2, 5.0, 40.7, 50.5], [0.0, 0.0, 96.0, 64.0], [70.6, 20.4, 71.4, 21.2]])
    filters = torch.randn(3, 16)
    zeros = torch.zeros(3, dtype=torch.int64)
    found = Detections(boxes, torch.ones(3), zeros, boxes[:, :2], zeros, filters)
    images = Images(torch.zeros(1, 3, 64, 96), ((64, 96),), ((64, 96),))
    (cut,) = assemble(output, [found], images, draw_logits, config)
    free = config.model_copy(update={"model": make("solov2-fcos").model})
    (whole,) = assemble(output, [found._replace(filters=filters.tanh())], images, draw_logits, free)
    y, x = torch.arange(64)[:, None] + 0.5, torch.arange(96) + 0.5
    for box, mask, uncut in zip(boxes, cut.masks.data, whole.masks.data, strict=True):
        inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        assert torch.equal(mask, uncut & inside)
    assert cut.masks.data[0].any()
    assert not torch.equal(cut.masks.data[0], whole.masks.data[0])


def test_the_cross_entropy_inside_the_box() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(3, 9, 12), torch.zeros(3, 9, 12, dtype=torch.bool)
    truth[0, 2:5, 3] = truth[0, 4, 3:8] = True
    truth[1, 0, 0] = True
    losses = box_cross_entropy(logits, truth)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), truth.double(), reduction="none")
    assert losses[0].item() == pytest.approx(each[0, 1:6, 2:9].mean().item(), rel=1e-5)
    assert losses[1].item() == pytest.approx(each[1, :2, :2].mean().item(), rel=1e-5)
    assert losses[2] == 0


@pytest.mark.parametrize("method", KINDS)
def test_settings_of_other_methods_are_refused(method: str) -> None:
    with pytest.raises(UsageError, match=r"does not use mask_head\.depth; leave it at 3"):
        Config.from_dict({"model": {"method": method, "mask_head": {"depth": 2}}})
    assert ModelConfig(method=method).coordinates == "none"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["solov2", "yolact", "blendmask", "meinst"])
def test_the_small_recipes_differ_from_small_in_the_masks_alone(name: str) -> None:
    plain, other = load_recipe("small"), load_recipe(f"small-{name}")
    for part in ("input", "augment", "train", "detect", "targets"):
        assert getattr(plain, part) == getattr(other, part)
    assert plain.model.backbone == other.model.backbone
    assert plain.model.head == other.model.head
    assert plain.model.fpn_channels == other.model.fpn_channels
    assert method_of(other.model) is not method_of(plain.model)
