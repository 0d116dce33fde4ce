"""Gradient accumulation: several small batches make the step of a large one."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine import train as engine
from condinst.engine.batches import BatchKeys, make_steps, pad_alike
from condinst.engine.losses import _shares, prepare
from condinst.engine.processes import make_accelerator
from condinst.engine.train import forget_masks, train
from condinst.model.condinst import CondInst
from condinst.structures import Images
from condinst.training.sampling import Sampling, choose_positives, count_positives

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
SMALL: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_035", "frozen_stages": 0},  # whose norms are fixed
        "fpn_channels": 16,
        # a prior, so that no distance lies at the kink of its ReLU, where rounding decides whether it has a gradient
        "head": {"convs": 1, "channels": 16, "distance_prior": 2},
        "mask_branch": {"convs": 1, "channels": 8},
        "semantic": True,
    },
    "augment": {"shorter": [96], "longer": 400, "crop": 96, "turns": True},  # all of one size, so that none is padded
    "targets": {"max_mask_positives": 5000},
    "train": {
        "init": "none",
        "iterations": 3,
        "lr": 0.001,
        "clip_norm": 1.0,
        "workers": 0,
        "warmup_iterations": 0,
        "log_every": 1,
    },
}


@pytest.fixture(scope="module")
def data() -> AnnotatedData:
    """Four pictures: of many objects, few, boxes alone, none. So the parts' divisors differ."""
    whole = read_coco(NUCLEI / "train.json", NUCLEI / "images")
    first, second, third, fourth = whole.samples[:4]
    return replace(
        whole,
        samples=(first, replace(second, instances=second.instances[:3]), third, replace(fourth, instances=())),
    )


def make_config(*overrides: str) -> Config:
    return Config.from_dict(SMALL).with_overrides(list(overrides))


def fixed_norms(config: Config, *_: Any) -> tuple[CondInst, list[str]]:
    """Norms see the pictures of a part alone, so they stay as they are, in all of the network."""
    torch.manual_seed(0)
    model = CondInst(config.model)

    def train_but_norms(self: nn.Module, mode: bool = True) -> nn.Module:
        nn.Module.train(self, mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self

    model.__class__ = type("Fixed", (CondInst,), {"train": train_but_norms})
    return model.train(), []


def rows(folder: Path) -> list[dict[str, float]]:
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [dict(zip(lines[0], map(float, line), strict=True)) for line in lines[1:]]


@pytest.mark.parametrize("supervision", ["masks", "mixed"])
def test_four_batches_of_two_are_one_of_eight(
    tmp_path: Path, data: AnnotatedData, supervision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every term of the loss, the gradient's norm before it is clipped, and the weights after three steps."""
    config = make_config()
    if supervision == "mixed":
        boxes = forget_masks(replace(data, samples=data.samples[2:3])).samples
        data = replace(data, samples=(*data.samples[:2], *boxes, *data.samples[3:]))
        # the term of pairs of pixels is a mean over pairs, which the parts' numbers of instances cannot stand for
        config = make_config("model.semantic=false", "loss.pairwise_weight=0")
    monkeypatch.setattr(engine, "build_model", fixed_norms)
    for name, batch, parts in (("whole", 8, 1), ("parts", 2, 4)):
        shares = [f"train.batch_size={batch}", f"train.accumulate={parts}"]
        train(config.with_overrides(shares), data, tmp_path / name)
    whole, parts_ = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert len(whole) == len(parts_) == 3
    for one, other in zip(whole, parts_, strict=True):
        for term in ("classification", "box", "quality", "mask", "projection", "semantic", "total", "grad_norm"):
            assert one[term] == pytest.approx(other[term], rel=1e-4), term
    assert whole[0]["mask"] > 0
    assert (whole[0]["projection"] > 0) == (supervision == "mixed")
    one_state, other_state = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for key, tensor in one_state.items():
        assert torch.allclose(tensor.double(), other_state[key].double(), rtol=1e-4, atol=1e-6), key


def test_parts_cut_the_same_pictures() -> None:
    whole = list(BatchKeys(7, 8, 2, 6, 3))
    for processes in (1, 2):
        ranks = [list(BatchKeys(7, 2, 2, 6, 3, rank, processes, parts=4)) for rank in range(processes)]
        assert len(BatchKeys(7, 2, 2, 6, 3, 0, processes, parts=4)) == len(ranks[0]) == 16
        keys = list(chain(*(share for shares in zip(*ranks, strict=True) for share in shares)))
        assert [keys[first : first + 8] for first in range(0, 32, 8)] == whole


@pytest.mark.parametrize("sampling", ["random", "random_per_image", "best_per_image"])
@pytest.mark.parametrize("most", [1, 7, 40, 5000])
def test_how_many_will_draw_a_mask_is_known_before(data: AnnotatedData, sampling: Sampling, most: int) -> None:
    config = make_config("train.batch_size=4")
    accelerator = make_accelerator(config)
    (part,) = prepare(next(make_steps(0, config, data, accelerator)), config, accelerator)
    torch.manual_seed(0)
    output = CondInst(config.model)(part.batch.images.tensor)
    assert part.goal is not None
    targets = part.goal.targets
    chosen = choose_positives(output.head, targets, sampling, most, torch.Generator())
    assert count_positives(targets, sampling, most) == len(chosen.image_index) > 0


def test_the_rule_is_documented_by_its_settings(tmp_path: Path, data: AnnotatedData) -> None:
    """What a step sees is batch_size times accumulate: the same pictures pass by in fewer iterations."""
    seen = []
    for batch, parts in ((4, 1), (2, 2), (1, 4)):
        config = make_config(f"train.batch_size={batch}", f"train.accumulate={parts}")
        steps = list(make_steps(0, config, data, make_accelerator(config)))
        assert [len(step) for step in steps] == [parts] * 3
        seen.append(json.dumps([[key for one in step for key in one.keys] for step in steps]))
    assert len(set(seen)) == 1


class Rank:
    """One of several processes, told beforehand what the others have."""

    device = torch.device("cpu")

    def __init__(self, number: int, everyone: list[torch.Tensor]) -> None:
        self.number, self.everyone, self.num_processes = number, everyone, len(everyone)

    def reduce(self, mine: torch.Tensor, kind: str) -> torch.Tensor:
        assert kind == "sum"
        assert mine == self.everyone[self.number].sum()
        return torch.stack([one.sum() for one in self.everyone]).sum()

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        assert torch.equal(mine, self.everyone[self.number][None])
        return torch.stack(self.everyone)


@pytest.mark.parametrize("counts", [[[3, 5], [0, 12]], [[7], [1]], [[0], [0]], [[4, 4, 4]]])
def test_masks_weigh_alike_in_all_processes(counts: list[list[int]]) -> None:
    """The mean over parts and processes of share · mean is the mean over all masks."""
    everyone = [torch.tensor(mine) for mine in counts]
    values = [[torch.rand(count).double() for count in mine] for mine in counts]
    terms = []
    for number, mine in enumerate(everyone):
        shares = _shares(list(mine.unbind()), cast(Accelerator, Rank(number, everyone)))
        terms += [share * one.sum() / max(len(one), 1) for share, one in zip(shares, values[number], strict=True)]
    every = torch.cat([one for mine in values for one in mine])
    assert float(torch.stack(terms).mean()) == pytest.approx(float(every.sum() / max(len(every), 1)))


def test_processes_pad_to_one_size() -> None:
    sizes = [torch.tensor([64, 96]), torch.tensor([96, 32])]
    for number, (height, width) in enumerate(size.tolist() for size in sizes):
        batch = Batch(Images(torch.ones(1, 3, height, width), ((height, width),), ((height, width),)), ())
        padded = pad_alike(batch, cast(Accelerator, Rank(number, sizes))).images
        assert padded.tensor.shape == (1, 3, 96, 96)
        assert padded.tensor.sum() == 3 * height * width == padded.tensor[:, :, :height, :width].sum()
        assert padded.sizes == ((height, width),)
