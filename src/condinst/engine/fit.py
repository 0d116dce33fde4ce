"""The training loop, one page, read top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from condinst.config import TrainConfig
from condinst.engine.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from condinst.engine.log import TrainingLog
from condinst.engine.optimizer import lr_factor, make_optimizer
from condinst.errors import CondinstError, ModelError

# (model, batch, generator for random choices, iteration from 0) → named losses, to be summed
LossesOf = Callable[[nn.Module, Any, torch.Generator, int], Mapping[str, Tensor]]


def fit(
    model: nn.Module,
    losses_of: LossesOf,
    make_batches: Callable[[int], Iterable[Any]],
    config: TrainConfig,
    folder: Path,
    accelerator: Accelerator,
    resume: bool = False,
    after: Callable[[nn.Module, int], None] | None = None,
) -> nn.Module:
    """Train `model` and return the module to keep: the moving average if there is one, else the model.

    make_batches(start) yields this process's batches from iteration `start` on. `after(module, iteration)` is called on
    the main process every `validate_every` iterations. Raises CondinstError when the loss stops being finite and
    ModelError when the checkpoint to resume from does not fit.
    """
    optimizer = make_optimizer(model, config)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    average = _moving_average(model, config.ema_decay) if config.ema_decay else None
    weights: dict[str, nn.Module] = {"model": model} | ({"average": average} if average is not None else {})
    start = _restore(folder, weights, optimizer) if resume else 0
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    kept = model
    if average is not None:
        kept = average.to(accelerator.device).module
    is_main = accelerator.is_main_process
    with (
        TrainingLog(folder / "log.csv", start, config.iterations, config.log_every, config.batch_size)
        if is_main
        else nullcontext()
    ) as log:
        wrapped.train()
        for iteration, batch in enumerate(make_batches(start), start=start):
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * lr_factor(iteration, config)
            generator = _generator(config.seed, iteration, accelerator.process_index)
            losses = losses_of(wrapped, batch, generator, iteration)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            accelerator.backward(total)
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm or math.inf)
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
            done = iteration + 1
            numbers = _numbers(losses, total, norm, optimizer.param_groups[-1]["lr"], accelerator)
            _check_finite(numbers, done, config.precision)
            if log is not None:
                log.step(done, numbers)
                if done % config.checkpoint_every == 0 or done == config.iterations:
                    save_checkpoint(folder, done, weights, {"optimizer": optimizer.state_dict()})
                if after is not None and config.validate_every and done % config.validate_every == 0:
                    after(kept, done)
                    wrapped.train()
    accelerator.wait_for_everyone()
    return kept


def _moving_average(model: nn.Module, decay: float) -> AveragedModel:
    mix = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True)


def _generator(seed: int, iteration: int, process: int) -> torch.Generator:
    """Random choices that depend on nothing but where the run is, so that a resumed run makes the same ones."""
    return torch.Generator().manual_seed((seed * 1_000_003 + iteration) * 1_009 + process)


def _restore(folder: Path, weights: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    found = list_checkpoints(folder)
    if not found:
        return 0
    state = load_checkpoint(found[-1], weights)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError:
        raise ModelError(
            f"{found[-1]}: cannot be resumed with another optimizer or other frozen parts; keep the run's settings"
        ) from None
    iteration: int = state["iteration"]
    return iteration


def _numbers(
    losses: Mapping[str, Tensor], total: Tensor, norm: Tensor, rate: float, accelerator: Accelerator
) -> dict[str, float]:
    """The losses' means over processes, as numbers for people."""
    names = [*losses, "total"]
    values = torch.stack([*losses.values(), total]).detach()
    reduced: Tensor = accelerator.reduce(values, "mean")
    return dict(zip(names, reduced.tolist(), strict=True)) | {"grad_norm": float(norm), "lr": rate}


def _check_finite(numbers: Mapping[str, float], iteration: int, precision: str) -> None:
    """Before a checkpoint is written: gradients that are not finite have spoilt the weights, though not yet a loss."""
    tried = {"grad_norm"} if precision == "fp16" else set()  # there the scaler skips the step and tries a lower scale
    wrong = [name for name, value in numbers.items() if not math.isfinite(value) and name not in tried]
    if wrong:
        raise CondinstError(
            f"iteration {iteration}: {', '.join(wrong)} not finite; "
            "lower train.lr, set train.clip_norm or train.precision=no"
        )
