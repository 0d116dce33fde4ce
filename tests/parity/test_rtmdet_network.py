"""The network of mmdetection's RTMDet-Ins in five sizes, its weights filled by formula, stage by stage."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from condinst.model.rtmdet_ins import RTMDetIns
from condinst.settings.model import ModelConfig
from condinst.weights.published.rtmdet import alias_names, source_names
from tests.parity.rtmdet_formula import SETS, SIZES, Key, Weights, formula, read_keys

Note = Callable[[str, object], None]
CHANNELS = {"tiny": 96, "s": 128, "m": 192, "l": 256, "x": 320}
BLOCKS = {"tiny": 1, "s": 1, "m": 2, "l": 3, "x": 4}
PARAMETERS = {"tiny": 5_638_187, "s": 10_183_311, "m": 27_575_111, "l": 57_365_663, "x": 102_703_767}
STRIDES = (8, 16, 32)
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # blue, green, red
# Largest difference over the largest magnitude; with a unit, the largest difference.
RELATIVE, LOGITS, PIXELS, FEATURES = 1e-3, 5e-3, 0.02, 0.01
PICTURE = "data/coco_mini/images/000000000790.jpg"
PARTS = {"c4y2x2": (4, 2, 2), "c8y4x4": (8, 4, 4), "y2x2": (1, 2, 2), "y8x8": (1, 8, 8)}


def settings(size: str, separate_box_tower: bool = False) -> ModelConfig:
    channels = CHANNELS[size]
    head = {"convs": 2, "channels": channels, "distance_prior": 1, "separate_box_tower": separate_box_tower}
    return ModelConfig.model_validate(
        {
            "method": "rtmdet-ins",
            "classes": [str(label) for label in range(80)],
            "backbone": {"name": f"cspnext_{size}", "norm": "batch", "frozen_stages": 0},
            "pyramid": "pafpn",
            "fpn_channels": channels,
            "pafpn_blocks": BLOCKS[size],
            "head": head,
            "mask_branch": {"convs": 4, "channels": channels},
            "size_ranges": [],
            "coordinate_scales": [64, 128, 256],
        }
    )


def build(size: str, separate_box_tower: bool = False) -> RTMDetIns:
    """The network without initial weights, for speed."""
    with torch.device("meta"):
        model = RTMDetIns(settings(size, separate_box_tower))
    return model.to_empty(device="cpu").eval()


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "rtmdet_ins"


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, list[Key]]:
    return read_keys(folder)


@pytest.mark.parametrize("size", SIZES)
def test_names_and_shapes_are_the_published_ones(keys: dict[str, list[Key]], size: str) -> None:
    published = {key.name: key for key in keys[size]}
    model = build(size)
    seen = []
    for own, tensor in model.state_dict().items():
        (source,) = source_names(own)
        aliases = alias_names(own)
        seen += [source, *aliases]
        assert all(published[alias].alias == source for alias in aliases), own
        assert published[source].alias is None
        assert published[source].shape == tuple(tensor.shape)
    assert sorted(seen) == sorted(published)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]
    storages = [tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()]
    assert len(set(storages)) == len(storages)


def test_names_with_a_separate_box_tower(keys: dict[str, list[Key]]) -> None:
    """A file of a program that gave the boxes a tower of their own: convolutions shared by levels, norms not."""
    seen = []
    for own in build("tiny", separate_box_tower=True).state_dict():
        aliases = alias_names(own, separate_box_tower=True)
        assert len(aliases) == (2 if "_tower.convs." in own else 0)
        seen += [*source_names(own), *aliases]
    assert sorted(seen) == sorted(key.name for key in keys["tiny"])


@pytest.mark.parametrize("name", [*SIZES, "tiny@t"])
def test_the_formula_gives_the_recorded_weights(keys: dict[str, list[Key]], name: str) -> None:
    weights = SETS[name.replace("@", "_")]
    for key in keys[name]:
        if key.total is None or key.length is None:
            assert key.name.endswith("num_batches_tracked")
        elif key.alias is None:
            value = formula(key.name, key.shape, weights).double()
            assert float(value.norm()) == pytest.approx(key.length, rel=1e-5, abs=2e-6), key.name
            assert float(value.sum()) == pytest.approx(key.total, rel=1e-5, abs=1e-5 * key.length + 2e-6), key.name


def state(weights: Weights) -> dict[str, Tensor]:
    tensors = {}
    for own, tensor in build(weights.size).state_dict().items():
        (source,) = source_names(own)
        shape = tuple(tensor.shape)
        tensors[own] = formula(source, shape, weights) if shape else torch.zeros(shape, dtype=torch.int64)
    return tensors


def read_input(folder: Path, name: str) -> Tensor:
    """The recorded input, normalised: (1, 3, H, W)."""
    if name == "tiny_640":
        image = np.asarray(Image.open(folder.parents[1] / PICTURE).convert("RGB"))[:, :, ::-1]
        if zlib.crc32(np.ascontiguousarray(image)) != np.load(folder / "infer_tiny_640.npz")["image_crc32"]:
            pytest.skip("this decoder of JPEG gives other pixels than the recorded ones")
        picture = np.full((3, 640, 640), 114, np.uint8)
        picture[:, : image.shape[0]] = image.transpose(2, 0, 1)
    else:
        source = name if name in {"tiny", "s"} else "tiny"
        picture = np.load(folder / f"infer_{source}.npz")["input_u8"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((torch.from_numpy(picture) - mean) / std)[None]


def run_stages(model: RTMDetIns, images: Tensor) -> dict[str, Tensor]:
    """The recorded stages by their recorded names."""
    body, fpn, head, branch = model.backbone.body, model.fpn, model.head, model.mask_branch
    assert branch is not None
    layers: dict[str, nn.Module] = {
        "backbone.stem": body.stem,
        **{f"backbone.stage{stage}": getattr(body, f"stage{stage}") for stage in range(1, 5)},
        "backbone.stage4.spp": body.stage4[1],
        "head.cls_tower": head.class_tower,
        "head.kernel_tower": head.controller_tower,
        "mask.fusion": branch.fusion,
        **{f"mask.conv{index}": branch.tower[index] for index in range(4)},
    }
    for name, parts in (
        ("reduce", fpn.reduce_layers),
        ("top_down", fpn.top_down_blocks),
        ("bottom_up", fpn.bottom_up_blocks),
        ("out", fpn.out_convs),
    ):
        layers |= {f"neck.{name}{index}": part for index, part in enumerate(parts)}
    found: dict[str, Tensor] = {"input_norm": images}

    def keep(name: str) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Tensor | tuple[Tensor, ...]) -> None:
            many = {name: output} if isinstance(output, Tensor) else {f"{name}{n}": o for n, o in enumerate(output)}
            found.update(many)

        return note

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    with torch.inference_mode():
        output = model(images)
    for hook in hooks:
        hook.remove()
    for level, stride in enumerate(STRIDES):
        found[f"head.cls{level}"] = output.head.class_logits[level]
        found[f"head.reg{level}"] = output.head.distances_in_strides[level] * stride
        found[f"head.kernel{level}"] = output.head.filters[level]
    return found | {"mask.feat": output.mask_features}


def limit_of(stage: str) -> tuple[float, bool]:
    """The largest difference allowed, and whether it is relative to the largest magnitude."""
    limits = {"head.cls": LOGITS, "head.reg": PIXELS, "mask.feat": FEATURES}
    known = next((limits[start] for start in limits if stage[:-1] == start or stage == start), None)
    return (RELATIVE, True) if known is None else (known, False)


def apart(mine: Tensor, arrays: Any, name: str) -> float:
    """Largest difference from the recorded array `name`, of the values or of mean, deviation, norm and maximum."""
    largest = float(arrays[f"{name.split('__')[0]}__stats"][3])
    relative = limit_of(name.split("__")[0])[1]
    if name.endswith("__stats"):
        exact = mine.double()
        stats = [exact.mean(), exact.std(correction=0), exact.norm() / exact.numel() ** 0.5, exact.abs().max()]
        recorded = arrays[name] / [1, 1, exact.numel() ** 0.5, 1]
        difference = float(np.abs(np.array([float(value) for value in stats]) - recorded).max())
    else:
        difference = float(np.abs(part(mine, name).numpy() - arrays[name]).max())
    assert np.isfinite(difference)
    return difference / largest if relative else difference


def part(maps: Tensor, name: str) -> Tensor:
    steps = PARTS[name.split("__")[1]] if "__" in name else (1, 1, 1)
    return maps[(slice(None), *(slice(None, None, step) for step in steps))]


@pytest.mark.parametrize("name", ["tiny", "s", "m", "l", "x", "tiny_640"])
def test_every_recorded_stage(folder: Path, name: str, record_property: Note) -> None:
    """Within the limits, or as near to the result in float64 as the recording is: processors round differently."""
    arrays: NDArray[Any] = np.load(folder / f"infer_{name}.npz")
    model = build(SETS[name].size)
    model.load_state_dict(state(SETS[name]))
    images = read_input(folder, name)
    stages = run_stages(model, images)
    exact = run_stages(model.double(), images.double())
    recorded = [key for key in arrays if key.split("__")[0] in stages]
    assert {key.split("__")[0] for key in recorded} == set(stages)
    groups: dict[str, float] = {}
    for key in recorded:
        stage = key.split("__")[0]
        found = apart(stages[stage], arrays, key)
        limit, relative = limit_of(stage)
        group = stage.rstrip("0123456789") + ("" if relative else " (absolute)")
        groups[group] = max(groups.get(group, 0.0), found)
        rounding = apart(exact[stage], arrays, key)
        assert rounding <= 20 * limit, key
        assert found <= max(limit, 4 * rounding), key
    for group, largest in groups.items():
        record_property(group, float(largest))


def read_step(folder: Path, mode: str) -> tuple[Any, Tensor]:
    """The recorded arrays of a training step and its two images, normalised."""
    arrays = np.load(folder / f"train_tiny_two_{mode}.npz")
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return arrays, (torch.from_numpy(arrays["images_u8"]) - mean) / std


@pytest.mark.parametrize("mode", ["frozenbn", "trainbn"])
def test_a_training_step(folder: Path, mode: str, record_property: Note) -> None:
    """The outputs with statistics of the batch and with fixed ones, and the statistics after the step."""
    arrays, images = read_step(folder, mode)
    model = build("tiny")
    model.load_state_dict(state(SETS["tiny_t"]))
    stages = run_stages(model.train(mode == "trainbn"), images)
    recorded = [key for key in arrays if key.startswith(("head.", "mask.feat"))]
    assert len(recorded) == 9 + 3 + 3 + 2
    for key in recorded:
        stage = key.split("__")[0]
        found = apart(stages[stage], arrays, key)
        record_property(key, float(found))
        assert found <= limit_of(stage)[0], key
    buffers = {source_names(own)[0]: value for own, value in model.named_buffers()}
    moved = [key for key in arrays if key.startswith("after.") and "running" in key]
    assert len(moved) == (12 if mode == "trainbn" else 0)
    for key in moved:
        mine, theirs = buffers[key.removeprefix("after.")].numpy(), arrays[key]
        assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(theirs).max(), key
