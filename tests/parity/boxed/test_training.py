"""One training step of the published BlendMask and MEInst: targets, losses, gradients and running statistics.

The recorded numbers lie in ../shared/reference/{blendmask,meinst}; each test's largest deviations are its recorded
properties.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import Batch, make_images
from condinst.data.sample import Instance, Polygons, Sample
from condinst.data.truth import draw_truth
from condinst.engine.losses import Part, prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.methods.choose import build_network
from condinst.ops.locations import all_locations
from condinst.ops.mask_code import encode, soft_logits
from condinst.structures import NetworkOutput, Targets
from condinst.training.boxed import meinst
from condinst.training.boxed.targets import BoxedTargets
from condinst.weights.published import boxed_file
from condinst.weights.published.convert import read_published
from tests.parity.boxed.formula import FOLDERS, REFERENCE, SKIP, state_of

VARIANT = pytest.mark.variant
RT = "RT_R_50_4x_bn-head_syncbn_shtw"


class Case(NamedTuple):
    """A recorded step. norms: allowed relative differences of the total gradient's norm and of each gradient's norm.

    part: of the total norm, what a gradient may differ by. The true gradient of a bias before a batch norm is 0.
    """

    method: str
    name: str
    model: str
    settings: tuple[str, ...] = ()
    norms: tuple[float, float] = (1e-4, 2e-3)
    part: float = 1e-9


CASES = [
    pytest.param(Case("BlendMask", "BlendMask_R50", "R_50_1x"), id="blendmask"),
    pytest.param(Case("BlendMask", "BlendMask_R50_bitmask", "R_50_1x"), id="blendmask-bitmask"),
    pytest.param(
        Case("BlendMask", "BlendMask_R50_nosem", "R_50_1x", ("model.semantic=false",)),
        id="blendmask-nosem",
        marks=VARIANT,
    ),
    pytest.param(Case("BlendMask", "BlendMask_550_R50", "550_R_50_3x"), id="blendmask-550", marks=VARIANT),
    pytest.param(Case("BlendMask", "BlendMask_RT_R50_bnhead", RT, (), (5e-3, 5e-3), 1e-6), id="blendmask-rt"),
    pytest.param(Case("MEInst", "MEInst_R50_dcn", "MEInst_R_50_1x"), id="meinst"),
    pytest.param(Case("MEInst", "MEInst_R50_none", "MEInst_R_50_1x_none"), id="meinst-none", marks=VARIANT),
    pytest.param(Case("MEInst", "MEInst_R50_none_bitmask", "MEInst_R_50_1x_none"), id="meinst-bitmask", marks=VARIANT),
    pytest.param(
        Case("MEInst", "MEInst_R50_none_lossonmask", "MEInst_R_50_1x_none", ("loss.mask=bce",)),
        id="meinst-mask",
    ),
]
TERMS = {"classification": "cls", "box": "loc", "quality": "ctr"}
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
Note = Callable[[str, object], None]
pytestmark = SKIP


class Step(NamedTuple):
    """What ours makes of a case after one backward pass, and what was recorded of it.

    gradients, buffers: by their published names. rows: where each recorded positive is among ours. output: the output
    of the network. part: the batch with its targets.
    """

    case: Case
    arrays: Any
    recorded: dict[str, Any]
    losses: dict[str, float]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    rows: Tensor
    output: NetworkOutput
    part: Part
    config: Config


@pytest.fixture(scope="module", params=CASES)
def step(request: pytest.FixtureRequest) -> Step:
    case: Case = request.param
    folder = FOLDERS[case.method]
    recorded = json.loads((folder / "train.json").read_text())[case.name]
    arrays = np.load(folder / f"train_{case.name}.npz")
    state = state_of(case.method, case.model)
    if "model.semantic=false" in case.settings:
        state = {name: tensor for name, tensor in state.items() if ".seg_head." not in name}
    published = read_published(state, case.name)
    config = published.config.with_overrides(list(case.settings))
    model = build_network(config.model).train()
    model.load_state_dict(published.tensors)
    batch = read_batch(config)
    accelerator = make_accelerator(config)
    (part,) = prepare([batch], config, accelerator)
    assert part.goal is not None
    outputs: list[NetworkOutput] = []
    model.register_forward_hook(lambda *seen: outputs.append(seen[2]))
    rows = rows_of(arrays, part.goal.targets.locations, config)
    if recorded["mask_format"] == "polygon":  # ours come from bitmaps
        part = with_squares(part, polygon_squares(case, arrays, part.goal.targets, rows))
    with pytest.MonkeyPatch.context() as patched:
        if case.method == "MEInst":
            draws = uniform_of(folder, rows)
            patched.setattr(meinst, "draw_uniform", lambda *_: draws)
        losses = step_losses(model, part, torch.Generator(), 0, config, accelerator)
    torch.stack(list(losses.values())).sum().backward()
    names = boxed_file.read_file(state)[0].source_names
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return Step(
        case,
        arrays,
        recorded,
        {name: float(loss.detach()) for name, loss in losses.items()},
        by_source(gradients, names),
        by_source(dict(model.named_buffers()), names),
        rows,
        outputs[0],
        part,
        config,
    )


def read_batch(config: Config) -> Batch:
    folder, model = REFERENCE / "training", config.model
    arrays, records = np.load(folder / "train_batch.npz"), json.loads((folder / "train.json").read_text())["_batch"]
    pictures = [np.ascontiguousarray(arrays[f"image{index}_bgr_uint8"][:, :, ::-1]) for index in range(len(records))]
    sizes = [(record["original_height"], record["W"]) for record in records]
    look = model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor
    samples = [read_sample(record) for record in records]
    truths = (draw_truth(one, IDENTITY, one.height, one.width, model.truth_stride) for one in samples)
    return Batch(make_images(pictures, sizes, *look), tuple(truths))


def read_sample(record: dict[str, Any]) -> Sample:
    instances = []
    for number, thing in enumerate(record["objects"]):
        parts = tuple(np.array(part).reshape(-1, 2) for part in thing["polygons"])
        corners = np.concatenate(parts)
        box = (*corners.min(0).tolist(), *corners.max(0).tolist())
        instances.append(Instance(thing["cls"], box, Polygons(parts), False, number))
    return Sample(Path("recorded"), 0, record["W"], record["H"], tuple(instances))


def rows_of(arrays: Any, targets: Targets, config: Config) -> Tensor:
    """Where each recorded positive is among ours, which come in the order of images and locations."""
    strides = config.model.geometry.strides
    maps = tuple(torch.empty(1, 1, -(-256 // stride), -(-320 // stride)) for stride in strides)
    points = all_locations(maps, config.model.geometry)
    levels = torch.cat([torch.full((one.shape[2] * one.shape[3],), level) for level, one in enumerate(maps)])
    images, locations = (targets.instance_index >= 0).nonzero(as_tuple=True)
    ours = [
        (image, int(levels[at]), *points[at].tolist())
        for image, at in zip(images.tolist(), locations.tolist(), strict=True)
    ]
    names = ("im_inds", "fpn_levels", "locations")
    columns = [arrays[f"pos.{name}"].tolist() for name in names]
    theirs = [(image, level, *point) for image, level, point in zip(*columns, strict=True)]
    assert sorted(ours) == sorted(theirs)
    return torch.tensor([ours.index(one) for one in theirs])


def with_squares(part: Part, squares: Tensor) -> Part:
    assert part.goal is not None
    return part._replace(goal=part.goal._replace(targets=part.goal.targets._replace(squares=squares)))


def polygon_squares(case: Case, arrays: Any, targets: BoxedTargets, rows: Tensor) -> Tensor:
    """The recorded squares of all instances."""
    squares = torch.zeros_like(targets.squares)
    if case.method == "BlendMask":
        arrays = np.load(FOLDERS["BlendMask"] / "train_BlendMask_R50.npz")
        recorded, indices = arrays["gt_mask56"], arrays["gt_mask56#gt_inds"]
        squares[torch.from_numpy(indices).long()] = unpacked(recorded, len(indices), squares)
        return squares
    positives = targets.locations.instance_index[targets.locations.instance_index >= 0]
    masks = unpacked(arrays["pos.mask_targets28"], len(rows), squares)
    squares[positives[rows]] = masks
    assert torch.equal(squares[positives[rows]], masks)  # all positives of an instance have the same
    return squares


def unpacked(recorded: np.ndarray, count: int, like: Tensor) -> Tensor:
    bits = np.unpackbits(recorded.reshape(count, -1), axis=1)[:, : like[0].numel()]
    return torch.from_numpy(bits).bool().reshape(count, *like.shape[1:])


def uniform_of(folder: Path, rows: Tensor) -> Tensor:
    """The recorded random numbers in the order of our positives."""
    recorded = torch.from_numpy(np.load(folder / "train_MEInst_R50_none.npz")["encoder_rand"])
    ordered = torch.empty_like(recorded)
    ordered[rows] = recorded
    return ordered


def by_source(tensors: dict[str, Tensor], source_names: Callable[[str], tuple[str, ...]]) -> dict[str, Tensor]:
    """The tensors under their published names, a vector of scales apart again."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        sources = source_names(name)
        found |= dict(zip(sources, tensor.split(1) if len(sources) > 1 else [tensor], strict=True))
    return found


def test_losses(step: Step, record_property: Note) -> None:
    prefix = "loss_fcos_" if step.case.method == "BlendMask" else "loss_MEInst_"
    terms = {own: prefix + name for own, name in TERMS.items()}
    terms |= {
        "mask": "loss_mask" if step.case.method == "BlendMask" else "loss_MEInst_mask",
        "semantic": "loss_basis_sem",
    }
    expected = step.recorded["losses"]
    weights = {"semantic": step.config.loss.semantic_weight}
    mine = {terms[name]: loss for name, loss in step.losses.items() if loss}
    assert set(mine) == set(expected)
    assert weights["semantic"] in {0.3, 1.0}
    for name, loss in mine.items():
        record_property(name, abs(loss / expected[name] - 1))
    assert mine == pytest.approx(expected, rel=2e-6)


def test_positives(step: Step) -> None:
    assert step.part.goal is not None
    targets: BoxedTargets = step.part.goal.targets
    positives = (targets.locations.instance_index >= 0).nonzero(as_tuple=True)
    rows = step.rows
    assert len(rows) == step.recorded["num_positive"] == 61
    assert targets.locations.labels[positives][rows].tolist() == step.arrays["pos.labels"].tolist()
    wanted = torch.from_numpy(step.arrays["pos.reg_targets"])
    assert torch.allclose(targets.locations.distances_in_strides[positives][rows], wanted, atol=1e-6)
    centers = torch.from_numpy(step.arrays["pos.gt_ctrs"])
    assert torch.allclose(targets.locations.quality[positives][rows], centers, atol=1e-6)


def test_squares_of_bitmaps(step: Step, record_property: Note) -> None:
    if step.recorded["mask_format"] == "polygon":
        pytest.skip("the squares of this case come from polygons")
    assert step.part.goal is not None
    targets: BoxedTargets = step.part.goal.targets
    if step.case.method == "BlendMask":
        indices = step.arrays["gt_mask56#gt_inds"]
        mine, theirs = targets.squares[torch.from_numpy(indices).long()], step.arrays["gt_mask56"]
    else:
        instances = targets.locations.instance_index[targets.locations.instance_index >= 0][step.rows]
        mine, theirs = targets.squares[instances], step.arrays["pos.mask_targets28"]
    differing = int((mine != unpacked(theirs, len(mine), targets.squares)).sum())
    record_property("differing cells", differing)
    assert differing == 0


def test_codes(step: Step, record_property: Note) -> None:
    if "pos.mask_codes_target" not in step.arrays:
        pytest.skip("no codes were recorded of this case")
    assert step.part.goal is not None
    assert step.output.code is not None
    targets: BoxedTargets = step.part.goal.targets
    instances = targets.locations.instance_index[targets.locations.instance_index >= 0][step.rows]
    uniform = torch.from_numpy(np.load(FOLDERS["MEInst"] / "train_MEInst_R50_none.npz")["encoder_rand"])
    wanted = encode(soft_logits(targets.squares[instances].flatten(1), uniform), step.output.code)
    apart = float((wanted - torch.from_numpy(step.arrays["pos.mask_codes_target"])).abs().max())
    record_property("codes of the targets", apart)
    assert apart <= 3e-5


def test_semantic_target(step: Step) -> None:
    assert step.part.goal is not None
    targets: BoxedTargets = step.part.goal.targets
    full = [name for name in step.arrays.files if name.startswith("basis_sem")]
    if not full:
        pytest.skip("no semantic map was recorded of this case")
    assert targets.semantic is not None
    for index in range(len(targets.semantic)):
        theirs = step.arrays[f"basis_sem{index}"]
        shown = theirs[::8, ::8] if theirs.shape[0] > 100 else theirs
        mine = targets.semantic[index, : shown.shape[0], : shown.shape[1]]
        assert np.array_equal(mine.numpy(), shown)
        assert int(targets.semantic[index].sum()) == int(shown.sum())


def test_every_gradient(step: Step, record_property: Note) -> None:
    """Norm and sum of each trainable parameter's gradient; the same parameters train."""
    norms, sums = step.recorded["grad_norm"], step.recorded["grad_sum"]
    unused = {name for name in norms if name.startswith("backbone.bottom_up.level")}
    assert set(step.gradients) == set(norms) - unused
    total, each = step.case.norms
    in_norm, in_sum = {}, {}
    for name, gradient in step.gradients.items():
        double = gradient.double()
        floor = step.case.part * step.recorded["grad_total_norm"]
        in_norm[name] = abs(float(double.norm()) - norms[name]) / (norms[name] + floor)
        # a sum moves by no more than √n times what the vector moves by, and often nearly cancels
        in_sum[name] = abs(float(double.sum()) - sums[name]) / ((norms[name] + floor) * double.numel() ** 0.5)
    whole = float(torch.stack([gradient.double().norm() for gradient in step.gradients.values()]).norm())
    record_property("norm of a gradient", max(in_norm.values()))
    record_property("sum of a gradient", max(in_sum.values()))
    record_property("total gradient norm", abs(whole / step.recorded["grad_total_norm"] - 1))
    assert max(in_norm.values()) <= each, max(in_norm, key=in_norm.__getitem__)
    assert max(in_sum.values()) <= each, max(in_sum, key=in_sum.__getitem__)
    assert whole == pytest.approx(step.recorded["grad_total_norm"], rel=total)


def test_whole_gradients(step: Step, record_property: Note) -> None:
    names = [name.removeprefix("grad.") for name in step.arrays.files if name.startswith("grad.")]
    assert len(names) >= 9
    apart = {}
    for name in names:
        own, _, part = name.partition("#")
        mine, theirs = step.gradients[own], step.arrays[f"grad.{name}"]
        if part:
            mine = next(one for one in (mine[::16, ::16], mine[::4, ::8]) if tuple(one.shape) == theirs.shape)
        assert tuple(mine.shape) == theirs.shape
        scale = float(np.linalg.norm(theirs)) + step.case.part * step.recorded["grad_total_norm"]
        apart[name] = float(np.linalg.norm(mine.numpy() - theirs)) / scale
    record_property("a whole gradient", max(apart.values()))
    assert max(apart.values()) <= step.case.norms[1], max(apart, key=apart.__getitem__)


def test_running_statistics(step: Step, record_property: Note) -> None:
    names = [name.removeprefix("after.") for name in step.arrays.files if name.endswith((".running_mean", "_var"))]
    if not names:
        pytest.skip("no statistics were recorded of this case")
    apart = {}
    for name in names:
        theirs = step.arrays[f"after.{name}"]
        apart[name] = float(np.abs(step.buffers[name].numpy() - theirs).max() / np.abs(theirs).max())
    record_property("running statistics", max(apart.values()))
    assert max(apart.values()) <= 1e-5, max(apart, key=apart.__getitem__)
