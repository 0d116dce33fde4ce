"""The moving average of the weights of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from condinst.settings.training import TrainConfig


def moving_average(model: nn.Module, config: TrainConfig) -> AveragedModel:
    """A moving average of the parameters and buffers of `model`. Its first update copies them.

    A model may have an attribute `ema_updates`, a mapping from names of parameters and buffers to the number of updates
    they get in a step. The number is one for all others. Raises ValueError for a name that the model does not have.
    """
    updates: Mapping[str, int] = getattr(model, "ema_updates", {})
    if config.ema_warmup or updates:
        return WarmAverage(model, config.ema_decay, config.ema_warmup, updates)
    mix = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True)


class WarmAverage(AveragedModel):
    """A moving average that follows the model closely at first, as mmengine's ExpMomentumEMA does.

    After t earlier updates, a step moves the average by the part (1 − decay) + decay·exp(−(1 + t) / warmup) of its
    distance to the model, as often as `updates` says. Integer buffers keep the value of the first update.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: int, updates: Mapping[str, int]) -> None:
        super().__init__(model, use_buffers=True)
        unknown = updates.keys() - {name for name, _ in _tensors(model)}
        if unknown:
            raise ValueError(f"ema_updates: the model has no parameter or buffer {', '.join(sorted(unknown))}")
        self.decay, self.warmup, self.updates = decay, warmup, dict(updates)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the parameters and buffers of `model`."""
        earlier = int(self.n_averaged)
        momentum = 1 - self.decay
        if self.warmup:
            momentum += self.decay * math.exp(-(1 + earlier) / self.warmup)
        groups: dict[int, tuple[list[Tensor], list[Tensor]]] = {}  # by the number of updates
        for (name, average), (_, value) in zip(_tensors(self.module), _tensors(model), strict=True):
            if earlier == 0:
                average.copy_(value)
            elif average.is_floating_point():
                averages, values = groups.setdefault(self.updates.get(name, 1), ([], []))
                averages.append(average)
                values.append(value.to(average.device))
        for times, (averages, values) in groups.items():
            # several updates of one tensor in a step leave (1 − momentum)^times of its distance
            torch._foreach_lerp_(averages, values, 1 - (1 - momentum) ** times)
        self.n_averaged += 1


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The name and the values of each parameter and buffer, without gradient. A shared one has its first name."""
    return [(name, tensor.detach()) for name, tensor in chain(module.named_parameters(), module.named_buffers())]
