"""First weights of a backbone: ImageNet's folded convolutions, state dicts, and what does not fit.

Caffe's pickles have a file of their own.
"""

import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from condinst.config import Config
from condinst.errors import ModelError
from condinst.model.backbones.backbone import Backbone
from condinst.recipes import load_recipe
from condinst.settings.model import BackboneConfig, ModelConfig
from condinst.weights.backbone import differences, load_backbone_weights, load_first_weights

IMAGENET = Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v2_imagenet.npz"


def make(name: str = "mobilenetv2_035", **settings: object) -> Backbone:
    return Backbone(BackboneConfig.model_validate({"name": name, "frozen_stages": 0} | settings))


def folded(body: nn.Module) -> dict[str, np.ndarray]:
    """Random weights and biases for every convolution, under names that say nothing."""
    rng = np.random.default_rng(0)
    arrays = {}
    for number, conv in enumerate(m for m in body.modules() if isinstance(m, nn.Conv2d)):
        fan_in = conv.weight[0].numel()
        arrays[f"layer{number:03d}.weight"] = rng.normal(0, fan_in**-0.5, conv.weight.shape).astype(np.float32)
        arrays[f"layer{number:03d}.bias"] = rng.normal(0, 0.3, conv.weight.shape[0]).astype(np.float32)
    return arrays


class WithBias(nn.Module):
    """A convolution followed by its bias, where the network has a norm and the activation that timm put into it."""

    def __init__(self, bias: np.ndarray, activation: nn.Module) -> None:
        super().__init__()
        self.bias = torch.from_numpy(bias)[:, None, None]
        self.activation = activation

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.activation(maps + self.bias)
        return found


@torch.no_grad()
def test_folded_norms_give_the_forward_of_explicit_biases(tmp_path: Path) -> None:
    backbone = make().eval()
    arrays = folded(backbone.body)
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    load_backbone_weights(backbone.body, path)
    images = torch.randn(1, 3, 64, 64)
    found = backbone(images)

    explicit = make().eval()
    biases = iter(value for name, value in arrays.items() if name.endswith("bias"))
    weights = iter(value for name, value in arrays.items() if name.endswith("weight"))
    for module in list(explicit.body.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                child.weight.copy_(torch.from_numpy(next(weights)))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, WithBias(next(biases), child.act))  # type: ignore[arg-type]
    for one, other in zip(found, explicit(images), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not IMAGENET.is_file(), reason=f"ImageNet weights not at {IMAGENET}")
@torch.no_grad()
def test_imagenet_file() -> None:
    """The classifier's own convolution is left over; the rest fills the network in order."""
    backbone = make("mobilenetv2_100", same_padding=True, norm="affine").eval()
    load_backbone_weights(backbone.body, IMAGENET)
    arrays = np.load(IMAGENET)
    first = torch.from_numpy(arrays["features.0.0.weight"])
    assert torch.equal(backbone.body.conv_stem.weight, first)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    stem = F.conv2d(F.pad(images, (0, 1, 0, 1)), first, torch.from_numpy(arrays["features.0.0.bias"]), stride=2)
    assert torch.allclose(backbone.body.bn1(backbone.body.conv_stem(images)), stem.clamp(0, 6), atol=1e-5)
    kept = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.allclose(norm.running_var + norm.eps, torch.ones(())) for norm in kept)  # type: ignore[operator]
    for one, next_one in pairwise(backbone(images)):
        assert one.isfinite().all()
        assert one.std() > 0.01
        assert next_one.shape[-1] * 2 == one.shape[-1]


def test_a_file_need_not_count_the_batches_of_its_norms(tmp_path: Path) -> None:
    """The files of EfficientNet-Lite have no `num_batches_tracked`, which no network reads."""
    source, target = make().body, make().body
    state = {name: tensor for name, tensor in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    load_backbone_weights(target, file)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_state_dicts_with_timms_names(tmp_path: Path, suffix: str) -> None:
    """The classifier is left out."""
    torch.manual_seed(1)
    state = timm.create_model("mobilenetv2_035").state_dict()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    backbone = make()
    load_backbone_weights(backbone.body, path)
    own = backbone.body.state_dict()
    assert own
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())


@pytest.mark.parametrize("kind", ["mmdetection", "timm", "safetensors"])
def test_weights_of_cspnext(tmp_path: Path, kind: str) -> None:
    """mmdetection's ImageNet files have the prefix `backbone.`; timm counts the stages from 0."""
    backbone, other = make("cspnext_tiny", norm="batch"), make("cspnext_tiny", norm="batch")
    torch.manual_seed(2)
    wanted = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in other.body.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "mmdetection":
        state = {f"backbone.{name}": tensor for name, tensor in wanted.items()} | {"head.fc.weight": torch.ones(1)}
        torch.save({"meta": {}, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    else:
        stages = {f"stage{number}.": f"stages.{number - 1}." for number in range(1, 5)}
        state = {stages.get(name[:7], name[:7]) + name[7:]: tensor for name, tensor in wanted.items()}
        assert "stages.3.2.blocks.0.conv1.conv.weight" in state
        (save_file if kind == "safetensors" else torch.save)(state, path)
    load_backbone_weights(backbone.body, path)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in backbone.body.state_dict().items())


def refusal(body: nn.Module, path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_backbone_weights(body, path)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def test_refusals(tmp_path: Path) -> None:
    body = make().body
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    assert "train.init=FILE" in refusal(body, tmp_path / "absent.npz")
    assert "no such" in refusal(body, tmp_path)
    for suffix, words in {
        "npz": "not readable",
        "safetensors": "not a safetensors file",
        "pth": "nothing in it was run",
    }.items():
        path = tmp_path / f"words.{suffix}"
        path.write_text("not weights")
        assert words in refusal(body, path)
    state = dict(body.state_dict())
    name = next(iter(state))
    save_file({k: v for k, v in state.items() if k != name}, tmp_path / "missing.safetensors")
    assert f": missing tensors (1): {name}" in refusal(body, tmp_path / "missing.safetensors")
    save_file(state | {name: torch.zeros(2)}, tmp_path / "shape.safetensors")
    assert f": tensors of another shape (1): {name} is [2]" in refusal(body, tmp_path / "shape.safetensors")
    for content, words in (
        ([1, 2], "expected a state dict, got list"),
        (state | {name: 3}, f"'{name}' is not a tensor"),
        (state | {name: state[name].to(torch.complex64)}, f"not plain, finite numbers in {name}"),
        (state | {name: state[name].to_sparse()}, "it names torch._utils._rebuild_sparse_tensor"),
        (state | {name: state[name] * torch.nan}, f"not plain, finite numbers in {name}"),
    ):
        torch.save(content, tmp_path / "strange.pth")
        assert words in refusal(body, tmp_path / "strange.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())


def test_folded_arrays_that_do_not_fit(tmp_path: Path) -> None:
    body = make().body
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    arrays = folded(body)
    cases = {
        "few": dict(list(arrays.items())[:10]),
        "bias": {name: value for name, value in arrays.items() if name != "layer003.bias"},
        "shape": arrays | {"layer040.weight": np.zeros((3, 3, 1, 1), np.float32)},
        "wide": arrays | {"layer003.bias": np.zeros(1000, np.float32)},
    }
    for name, content in cases.items():
        np.savez(tmp_path / f"{name}.npz", **content)
    assert "5 folded convolutions do not fit" in refusal(body, tmp_path / "few.npz")
    assert "layer003.bias" in refusal(body, tmp_path / "bias.npz")
    assert "(3, 3, 1, 1)" in refusal(body, tmp_path / "shape.npz")
    assert "(1000,)" in refusal(body, tmp_path / "wide.npz")
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())


# --- what train.init says


def test_a_file_or_nothing(tmp_path: Path) -> None:
    body = make().body
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    for word in ("none", "imagenet"):  # the latter is timm's affair
        load_first_weights(body, word, "mobilenetv2_035")
        assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())
    save_file({name: torch.full_like(tensor, 2) for name, tensor in before.items()}, tmp_path / "twos.safetensors")
    load_first_weights(body, str(tmp_path / "twos.safetensors"), "mobilenetv2_035")
    stated = {name: tensor for name, tensor in body.state_dict().items() if "num_batches" not in name}
    assert all((tensor == 2).all() for tensor in stated.values())


def test_msras_are_kept_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    body = make("resnet50").body
    with pytest.raises(ModelError, match=r"https://dl.fbaipublicfiles.com/.*/MSRA/R-50.pkl: not in .*OFFLINE is set"):
        load_first_weights(body, "msra", "resnet50")
    cached = tmp_path / "hub" / "checkpoints" / "msra" / "R-101.pkl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pickle.dumps({}))
    with pytest.raises(ModelError, match=r"R-101.pkl: missing tensors \(.*\): conv1_w, res_conv1_bn_gamma"):
        load_first_weights(body, "msra", "resnet101")
    with pytest.raises(ModelError, match="msra has weights of resnet50 and resnet101, not of 'resnet18'"):
        load_first_weights(body, "msra", "resnet18")


def found_differences(model: ModelConfig, init: str) -> list[str]:
    with torch.device("meta"):
        return differences(model, init, Backbone(model.backbone).body)


def test_models_that_see_what_their_first_weights_saw() -> None:
    published = load_recipe("condinst-r50-1x").model
    for model, init in ((ModelConfig(), "imagenet"), (published, "msra"), (published, "R-50.pkl")):
        assert found_differences(model, init) == []
    for init in ("none", "weights.npz", "weights.pth"):
        assert found_differences(published, init) == found_differences(ModelConfig(), init) == []
    padded = ["model.backbone.name=tf_efficientnet_lite0", "model.backbone.same_padding=true"]
    halves = ["model.pixel_mean=[127.5,127.5,127.5]", "model.pixel_std=[127.5,127.5,127.5]"]
    assert found_differences(Config().with_overrides([*padded, *halves]).model, "imagenet") == []


def test_models_that_do_not() -> None:
    """What is told can be given on the command line, and then nothing is left to tell."""
    recipe = load_recipe("condinst-r50-1x")
    told = found_differences(recipe.model, "imagenet")
    assert [setting.split("=")[0] for setting in told] == [
        "model.channel_order",
        "model.pixel_mean",
        "model.pixel_std",
        "model.backbone.stride_in_1x1",
    ]
    assert found_differences(recipe.with_overrides(told).model, "imagenet") == []
    assert recipe.with_overrides(told).model == ModelConfig()
    told = found_differences(ModelConfig(), "msra")
    assert Config().with_overrides(told).model == recipe.model
    told = found_differences(load_recipe("nuclei").model, "imagenet")
    assert "model.backbone.same_padding=false" in told
    assert "model.pixel_mean=[123.675,116.28,103.53]" in told


def test_arrays_that_state_more_than_they_hold(tmp_path: Path) -> None:
    """A header of terabytes, a packed gigabyte, objects: one line, and no memory is asked for."""
    body, path = timm.create_model("test_resnet", features_only=True), tmp_path / "bomb.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1, 1, 1), }"
    forged = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    for name, content in {"0.weight.npy": forged, "zeros.npy": bytes(200_000_000), "text.npy": b"no array"}.items():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        with pytest.raises(ModelError, match=r"not readable as (weights|arrays)") as caught:
            load_backbone_weights(body, path)
        assert str(caught.value).isprintable()
    np.savez(path, **{"0.weight": np.zeros((1, 1, 1, 1), dtype="U9"), "0.bias": np.zeros(1)})
    with pytest.raises(ModelError, match="holds no numbers"):
        load_backbone_weights(body, path)
