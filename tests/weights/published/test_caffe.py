"""Caffe's ResNets: names of both programs that hand them out, and pickles in which nothing is run."""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from condinst.errors import ModelError
from condinst.model.backbones.backbone import Backbone
from condinst.model.backbones.deformable import DeformableConv
from condinst.settings.model import BackboneConfig
from condinst.weights.backbone import load_backbone_weights
from condinst.weights.published.caffe import blob_name, read_caffe

Blobs = dict[str, Any]
CAFFE = BackboneConfig(name="resnet26", stride_in_1x1=True)  # the smallest of bottlenecks


@cache
def trained() -> Backbone:
    """A ResNet whose norms have statistics, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(0)
    backbone = Backbone(CAFFE).eval()
    with torch.no_grad():
        for norm in norms(backbone.body):
            for tensor, low, high in (
                (norm.weight, 0.5, 0.9),
                (norm.bias, -0.2, 0.2),
                (norm.running_mean, -0.3, 0.3),
                (norm.running_var, 0.6, 1.6),
            ):
                assert isinstance(tensor, Tensor)
                tensor.uniform_(low, high, generator=generator)
    return backbone


def norms(body: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]


def places(body: Any) -> Iterator[tuple[str, str, nn.Conv2d, nn.BatchNorm2d]]:
    """Caffe's name of each convolution and of its norm, with both."""
    yield "conv1", "res_conv1_bn", body.conv1, body.bn1
    for stage, blocks in enumerate((body.layer1, body.layer2, body.layer3, body.layer4), start=2):
        for index, block in enumerate(blocks):
            branches = [("2a", block.conv1, block.bn1), ("2b", block.conv2, block.bn2), ("2c", block.conv3, block.bn3)]
            if block.downsample is not None:
                branches.append(("1", block.downsample[0], block.downsample[1]))
            for branch, conv, norm in branches:
                name = f"res{stage}_{index}_branch{branch}"
                yield name, f"{name}_bn", conv, norm


def array(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy().copy()


def spelt_out() -> Blobs:
    """As detectron2's file."""
    blobs: Blobs = {"conv1_b": np.zeros(64), "fc1000_w": np.zeros((10, 2048)), "fc1000_b": np.zeros(10)}
    for name, norm_name, conv, norm in places(trained().body):
        blobs[f"{name}_w"] = array(conv.weight)
        blobs[f"{norm_name}_gamma"], blobs[f"{norm_name}_beta"] = array(norm.weight), array(norm.bias)
        blobs[f"{norm_name}_running_mean"] = array(norm.running_mean)
        blobs[f"{norm_name}_running_var"] = array(norm.running_var)
    return blobs


def folded() -> Blobs:
    """As Detectron's file: a scale and a shift in place of each norm, and a bias with each convolution."""
    blobs: Blobs = {"fc1000_w": np.zeros((10, 2048)), "fc1000_b": np.zeros(10)}
    for name, norm_name, conv, norm in places(trained().body):
        blobs[f"{name}_w"], blobs[f"{name}_b"] = array(conv.weight), np.full(conv.out_channels, 1e-9)
        blobs[f"{norm_name}_s"], blobs[f"{norm_name}_b"] = array(norm.weight), array(norm.bias)
    return blobs


def write(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def load(path: Path, config: BackboneConfig = CAFFE) -> Backbone:
    torch.manual_seed(5)
    backbone = Backbone(config).eval()
    load_backbone_weights(backbone.body, path)
    return backbone


class Affine(nn.Module):
    """What Detectron has for a norm."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.scale, self.shift = norm.weight[:, None, None], norm.bias[:, None, None]

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.scale + self.shift


@torch.no_grad()
def test_detectron2s_file(tmp_path: Path) -> None:
    images = torch.randn(1, 3, 64, 64)
    for own, original in zip(load(write(tmp_path / "R-50.pkl", spelt_out()))(images), trained()(images), strict=True):
        assert own.std() > 0.01
        assert torch.equal(own, original)


@torch.no_grad()
def test_detectrons_file(tmp_path: Path) -> None:
    """The maps of a network that has an affine map wherever ours has a norm."""
    explicit = deepcopy(trained())
    for module in list(explicit.body.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, Affine(child))
    images = torch.randn(1, 3, 64, 64)
    found = load(write(tmp_path / "R-50.pkl", folded()))
    for own, original in zip(found(images), explicit(images), strict=True):
        assert torch.allclose(own, original, rtol=1e-4, atol=1e-4 * float(original.abs().max()))
    assert not torch.allclose(found(images)[2], trained()(images)[2], rtol=0.1)


def test_names_of_the_deeper_one() -> None:
    with torch.device("meta"):
        body = timm.create_model("resnet101", features_only=True, out_indices=(-3, -2, -1))
    expected = {f"{name}_w" for name, _, _, _ in places(body)}
    expected |= {f"{norm}_{part}" for _, norm, _, _ in places(body) for part in ("gamma", "beta")}
    expected |= {f"{norm}_running_{part}" for _, norm, _, _ in places(body) for part in ("mean", "var")}
    own = [name for name in body.state_dict() if "num_batches" not in name]
    assert {blob_name(name) for name in own} == expected
    assert "res4_22_branch2c_bn_gamma" in expected
    assert len(expected) == len(own)
    assert blob_name("blocks.0.conv.weight") == "blocks.0.conv.weight"
    assert blob_name("layer1.0.conv2.offset.weight") == "layer1.0.conv2.offset.weight"


class Python2(pickle._Pickler):
    """Writes words and bytes alike as Python 2 did, and numpy's functions where its older versions had them."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, text: bytes | str) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_bytes


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    with path.open("wb") as file:
        Python2(file, protocol=2).dump(spelt_out())
    content = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"cnumpy.core.multiarray\n_reconstruct" in content
    path.write_bytes(content)
    own, original = load(path).state_dict(), trained().state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in original.items())


SHAPE = (2, 3, 7, 5)
SMALL = np.arange(210, dtype=np.float32).reshape(SHAPE) / 8  # exact in half precision, too


def read_small(path: Path) -> Tensor:
    (tensor,) = read_caffe(path, {"conv1.weight": torch.Size(SHAPE)}).values()
    return tensor


@pytest.mark.parametrize("entry", ["model", "blobs"])
def test_arrays_below_the_top(tmp_path: Path, entry: str) -> None:
    content = {"__author__": "Caffe2", entry: OrderedDict(conv1_w=SMALL, conv1_w_momentum=SMALL)}
    assert read_small(write(tmp_path / "R-50.pkl", content)).tolist() == SMALL.tolist()


@pytest.mark.parametrize("kind", ["f2", "<f4", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_ways_to_write_numbers(tmp_path: Path, kind: str, order: Literal["C", "F"], protocol: int) -> None:
    blobs = {"conv1_w": SMALL.astype(kind, order=order)}
    read = read_small(write(tmp_path / "R-50.pkl", blobs, protocol))
    assert read.dtype == torch.float32
    assert read.tolist() == SMALL.tolist()


def test_offsets_of_deformable_convolutions_keep_their_start(tmp_path: Path) -> None:
    backbone = load(write(tmp_path / "R-50.pkl", spelt_out()), CAFFE.model_copy(update={"deformable_interval": 3}))
    offsets = [module.offset for module in backbone.modules() if isinstance(module, DeformableConv)]
    assert len(offsets) == 3
    assert not any(parameter.any() for offset in offsets for parameter in offset.parameters())
    assert torch.equal(backbone.body.layer2[0].conv2.weight, trained().body.layer2[0].conv2.weight)


# --- refusals


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    body = Backbone(CAFFE).body
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}

    def told(blobs: Blobs, body: nn.Module = body) -> str:
        return refusal(partial(load_backbone_weights, body), write(tmp_path / "R-50.pkl", blobs))

    blobs = spelt_out()
    line = told(without(blobs, "res_conv1_bn_beta") | {"res9_w": np.zeros(1), "conv1_w": np.zeros((64, 3, 3, 3))})
    assert "missing tensors (1): res_conv1_bn_beta; unknown tensors (1): res9_w; tensors of another shape (1): " in line
    assert "conv1_w is [64, 3, 3, 3], expected [64, 3, 7, 7]; " in line
    assert "NaN or infinity in res_conv1_bn_beta" in told(blobs | {"res_conv1_bn_beta": np.full(64, np.nan)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())
    for name, first in (("resnet50", "res2_2_branch2a_w"), ("mobilenetv2_035", "conv_stem.weight")):
        with torch.device("meta"):
            other = timm.create_model(name, features_only=True, out_indices=(-3, -2, -1))
        assert re.search(rf"missing tensors \(\d+\): {first}", told(blobs, other))


def without(blobs: Blobs, name: str) -> Blobs:
    return {other: blob for other, blob in blobs.items() if other != name}


class Wicked:
    """Calls something where a trusting reader meets it."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    calls = (
        Wicked(os.system, f"touch {mark}"),
        Wicked(eval, f"open({str(mark)!r}, 'w')"),
        Wicked(np.memmap, str(mark), "uint8", "w+", 0, (1,)),
        Wicked(os.mkdir, str(mark)),
    )
    for call in calls:
        for content in (call, {"conv1_w": call}, {"conv1_w": SMALL, "fc1000_b": [call]}, {call: SMALL}):
            line = refusal(read_small, write(tmp_path / "R-50.pkl", content))
            assert "more than arrays and plain containers; refused, and nothing in it was run" in line
            assert not mark.exists()
    pickle.loads((tmp_path / "R-50.pkl").read_bytes())
    assert mark.is_dir()  # so the last one does what it should not


def test_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "R-50.pkl", {"conv1_w": SMALL}, 4)
    whole = path.read_bytes()
    lying = whole.replace(b"(K\x02K\x03K\x07K\x05t", b"(K\x02K\x03K\x07K\x06t")
    assert lying != whole
    for content in (b"\x80", whole[:-1], whole[:300], b"not a pickle", whole.replace(b"f4", b"i4"), lying):
        path.write_bytes(content)
        assert "damaged, or holds more than arrays" in refusal(read_small, path)
    for odd in (np.array(["text"]), np.array([object()]), np.zeros(3, dtype=[("a", "f4")]), np.float32(3)):
        assert "damaged, or holds more than arrays" in refusal(read_small, write(path, {"conv1_w": odd}))
    torch.save({}, path)
    assert "damaged, or holds more than arrays" in refusal(read_small, path)
    assert "holds a list, expected arrays by name" in refusal(read_small, write(path, [1, 2]))
    assert "'conv1_w' is not an array" in refusal(read_small, write(path, {"conv1_w": 7}))
    assert "missing tensors (1): conv1_w" in refusal(read_small, write(path, {}))
    assert "cannot be read" in refusal(read_small, tmp_path / "absent.pkl")
