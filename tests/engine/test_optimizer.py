"""Who decays and how fast; the learning rate by hand."""

import math

import pytest
import torch
from torch import nn

from condinst.engine.optimizer import lr_factor, make_optimizer
from condinst.settings.training import TrainConfig


def make_config(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate(settings)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.LayerNorm(4))
        self.scales = nn.Parameter(torch.ones(5))
        self.backbone[0].weight.requires_grad_(False)


def settings_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of every parameter that is optimised."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }


def test_sgd_decays_all_but_norms() -> None:
    model = Net()
    optimizer = make_optimizer(model, make_config(lr=0.1, weight_decay=0.01, momentum=0.8, backbone_lr_factor=0.5))
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}
    assert settings_of(optimizer, model) == {
        "backbone.0.bias": (0.05, 0.01),
        "backbone.1.weight": (0.05, 0),
        "backbone.1.bias": (0.05, 0),
        "head.0.weight": (0.1, 0.01),
        "head.0.bias": (0.1, 0.01),
        "head.1.weight": (0.1, 0),
        "head.1.bias": (0.1, 0),
        "head.2.weight": (0.1, 0),
        "head.2.bias": (0.1, 0),
        "scales": (0.1, 0.01),
    }


def test_norms_decay_if_wanted() -> None:
    model = Net()
    settings = make_config(lr=0.1, weight_decay=0.01, decay_norms=True)
    assert set(settings_of(make_optimizer(model, settings), model).values()) == {(0.1, 0.01)}


def test_adamw_does_not_decay_biases() -> None:
    model = Net()
    optimizer = make_optimizer(model, make_config(optimizer="adamw", lr=0.1, weight_decay=0.01))
    assert isinstance(optimizer, torch.optim.AdamW)
    decaying = {name for name, (_, decay) in settings_of(optimizer, model).items() if decay}
    assert decaying == {"head.0.weight"}
    assert "backbone.0.weight" not in settings_of(optimizer, model)


def test_steps_by_hand() -> None:
    """Published 1x: linear from 1/1000 over 1000 iterations, a tenth from 60 000 and from 80 000 on."""
    config = make_config()
    expected = {
        0: 0.001,
        500: 0.5005,
        1000: 1,
        59_999: 1,
        60_000: 0.1,
        79_999: 0.1,
        80_000: 0.01,
        89_999: 0.01,
    }
    assert {at: lr_factor(at, config) for at in expected} == pytest.approx(expected)


def test_cosine_by_hand() -> None:
    config = make_config(schedule="cosine", iterations=110, warmup_iterations=10, warmup_factor=0.5)
    expected = {0: 0.5, 5: 0.75, 10: 1, 60: 0.5, 35: (1 + math.sqrt(0.5)) / 2, 110: 0, 200: 0}
    assert {at: lr_factor(at, config) for at in expected} == pytest.approx(expected)


def test_other_schedules_are_unchanged() -> None:
    """Bit for bit the formulas that earlier versions used, so that a run resumes as it began."""
    for warmup in (0, 7, 10):
        cosine = make_config(schedule="cosine", iterations=100, warmup_iterations=warmup, flat_part=0.9)
        step = make_config(schedule="step", iterations=100, warmup_iterations=warmup, final_factor=0.5)
        for at in range(101):
            share = at / warmup if at < warmup else 1
            rising = 0.001 * (1 - share) + share
            falling = 0.5 * (1 + math.cos(math.pi * min((at - warmup) / max(100 - warmup, 1), 1)))
            assert lr_factor(at, cosine) == (rising if at < warmup else falling)
            assert lr_factor(at, step) == (
                rising if at < warmup else 0.1 ** ((at >= 2 / 3 * 100) + (at >= 8 / 9 * 100))
            )


def test_flat_cosine_by_hand() -> None:
    """The last iteration of the warm-up has the full rate."""
    config = make_config(
        schedule="flat_cosine",
        iterations=100,
        warmup_iterations=11,
        warmup_factor=0.5,
        flat_part=0.6,
        final_factor=0.2,
    )
    expected = {0: 0.5, 5: 0.75, 10: 1, 11: 1, 60: 1, 80: 0.6, 70: 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 100: 0.2}
    assert {at: lr_factor(at, config) for at in expected} == pytest.approx(expected)
    assert lr_factor(99, config.model_copy(update={"flat_part": 1.0})) == 1
    assert lr_factor(0, config.model_copy(update={"warmup_iterations": 1})) == 0.5


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_short_runs(schedule: str) -> None:
    """No warm-up, one iteration, or a run that ends inside its warm-up."""
    assert lr_factor(0, make_config(schedule=schedule, iterations=1, warmup_iterations=0, milestones=[])) == 1
    short = make_config(schedule=schedule, iterations=5, warmup_iterations=10, warmup_factor=0.0)
    assert [lr_factor(at, short) for at in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
