"""The moving average against its rule as a loop over names."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from condinst.engine.averaging import moving_average
from condinst.settings.training import TrainConfig


class Net(nn.Module):
    """Two towers share a convolution and a norm."""

    def __init__(self, updates: Mapping[str, int] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.again = self.norm
        if updates is not None:
            self.ema_updates = updates


def move(model: nn.Module, step: int) -> None:
    """Give every parameter and buffer another value."""
    generator = torch.Generator().manual_seed(step)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
        else:
            tensor.add_(1)


def follow(model: nn.Module, steps: int, **settings: float) -> tuple[AveragedModel, list[dict[str, Tensor]]]:
    """The average after some steps, and what the model was after each."""
    average = moving_average(model, TrainConfig.model_validate(settings))
    states = []
    for step in range(steps):
        move(model, step)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        average.update_parameters(model)
    return average, states


@pytest.mark.parametrize("warmup", [0, 3, 2000])
@pytest.mark.parametrize("updates", [{}, {"conv.weight": 6, "norm.bias": 2, "norm.running_var": 2}])
def test_the_rule_as_a_loop(warmup: int, updates: dict[str, int]) -> None:
    average, states = follow(Net(updates), 7, ema_decay=0.9, ema_warmup=warmup)
    assert average.n_averaged == 7
    for name, found in average.module.state_dict().items():
        expected = states[0][name].double()
        for earlier, state in enumerate(states[1:], start=1):
            part = 0.1 + 0.9 * (math.exp(-(1 + earlier) / warmup) if warmup else 0)
            for _ in range(updates.get(name.replace("again", "norm"), 1)):
                expected += part * (state[name].double() - expected)
        if found.is_floating_point():
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        elif warmup or updates:
            assert found == states[0][name] == 1


def test_without_a_warm_up_it_is_torchs() -> None:
    average, _ = follow(Net(), 6, ema_decay=0.75)
    model = Net()
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75), use_buffers=True)  # type: ignore[no-untyped-call]
    for step in range(6):
        move(model, step)
        torchs.update_parameters(model)
    for name, expected in torchs.state_dict().items():
        assert torch.equal(average.state_dict()[name], expected), name


def test_a_shared_tensor_moves_once() -> None:
    """A parameter under two names is one tensor: the loop over names does not come twice to it."""
    average, states = follow(Net(), 2, ema_decay=0.5, ema_warmup=1)
    part = 0.5 + 0.5 * math.exp(-2)
    expected = states[0]["norm.weight"].lerp(states[1]["norm.weight"], part)
    torch.testing.assert_close(average.module.state_dict()["again.weight"], expected)


def test_the_count_is_part_of_the_state() -> None:
    """An average that is loaded goes on with the same numbers."""
    whole, _ = follow(Net({"conv.weight": 3}), 6, ema_decay=0.9, ema_warmup=5)
    half, _ = follow(Net({"conv.weight": 3}), 3, ema_decay=0.9, ema_warmup=5)
    model = Net({"conv.weight": 3})
    rest = moving_average(model, TrainConfig(ema_decay=0.9, ema_warmup=5))
    rest.load_state_dict(half.state_dict())
    for step in range(6):
        move(model, step)
        if step >= 3:
            rest.update_parameters(model)
    for name, expected in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], expected), name


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no parameter or buffer tower\.weight"):
        moving_average(Net({"tower.weight": 2}), TrainConfig(ema_decay=0.9))
