"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from condinst.engine.averaging import moving_average
from condinst.engine.checkpoint import advice, load_checkpoint, remove_checkpoints, save_checkpoint
from condinst.engine.optimizer import lr_factor, make_optimizer
from condinst.engine.run_folder.log import Tell, TrainingLog
from condinst.engine.run_folder.own_files import LOG
from condinst.engine.stop import list_checkpoints
from condinst.errors import CondinstError, ModelError
from condinst.settings.training import TrainConfig

NEEDED = {"iteration", "optimizer", "standing", "log"}  # keys of the state in a checkpoint
P = TypeVar("P")
Terms = Mapping[str, Tensor]
# (model, part of the step's batch, generator of random numbers, iteration from 0) → named losses; training sums them
LossesOf = Callable[[nn.Module, P, torch.Generator, int], Terms]
# (module to keep, iterations done, best score so far) → score; higher is better
Measure = Callable[[nn.Module, int, float], float]
# (iterations done, parts, losses of each part) → text for the error message that names the saved files
Inspect = Callable[[int, Sequence[P], Sequence[Terms]], str]


@dataclass
class Standing:
    """Scores of the measurements. stale: number of measurements since the best score."""

    best: float = -math.inf
    stale: int = 0

    def take(self, score: float) -> None:
        """Record a new score."""
        self.best, self.stale = (score, 0) if score > self.best else (self.best, self.stale + 1)


def fit(
    model: nn.Module,
    losses_of: LossesOf[P],
    make_steps: Callable[[int], Iterable[Sequence[P]]],
    config: TrainConfig,
    folder: Path,
    accelerator: Accelerator,
    resume: bool = False,
    measure: Measure | None = None,
    inspect: Inspect[P] | None = None,
    tell: Tell | None = None,
) -> nn.Module:
    """Train `model`. Return the moving average of the model if the settings ask for one, else the model.

    make_steps(start) yields the parts of this process's batch for each iteration from `start` on. A step uses the mean
    of the parts' gradients. The main process calls `measure` every `validate_every` iterations and at the last one,
    each time after a checkpoint. A run that resumes from such a checkpoint calls `measure` again. Training ends after
    `patience` scores without a new best score. Raises CondinstError, with the text of `inspect`, if the loss is not
    finite, and ModelError if the checkpoint to resume from does not fit.
    """
    optimizer = make_optimizer(model, config)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    average = moving_average(model, config) if config.ema_decay else None
    weights: dict[str, nn.Module] = {"model": model} | ({"average": average} if average is not None else {})
    state = _restore(folder, weights, optimizer) if resume else {}
    start, standing = state.get("iteration", 0), Standing(**state.get("standing", {}))
    unmeasured = measure is not None and bool(state.get("unmeasured"))
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.scaler is not None and "scaler" in state:
        accelerator.scaler.load_state_dict(state["scaler"])
    kept = model if average is None else average.to(accelerator.device).module
    with _open_log(folder, start, config, tell) if accelerator.is_main_process else nullcontext() as log:
        if log is not None and state:
            log.restore(state["log"])
        if unmeasured:
            _take_measure(standing, measure, kept, start, log, accelerator)
        wrapped.train()
        steps = () if _is_over(standing, config) else make_steps(start)
        for iteration, parts in enumerate(steps, start=start):
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * lr_factor(iteration, config)
            generator = _generator(config.seed, iteration, accelerator.process_index)
            optimizer.zero_grad()
            losses = _backward(wrapped, parts, losses_of, generator, iteration, accelerator)
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm or math.inf)
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
            done = iteration + 1
            numbers = _numbers(losses, norm, optimizer.param_groups[-1]["lr"], accelerator)
            wrong = _not_finite(numbers, config.precision)
            if wrong:  # check before writing a checkpoint
                where = f"; {inspect(done, parts, losses)}" if inspect is not None else ""
                remedy = "lower train.lr, set train.clip_norm or train.precision=no"
                raise CondinstError(f"iteration {done}: {wrong} not finite{where}; {remedy}")
            if log is not None:
                log.step(done, numbers)
            unmeasured = measure is not None and _is_due(done, config.validate_every, config)
            if log is not None and (unmeasured or _is_due(done, config.checkpoint_every, config)):
                state = _state(optimizer, standing, log, accelerator)
                save_checkpoint(folder, done, weights, state | {"unmeasured": unmeasured})
            if unmeasured:  # after the checkpoint, so that a failed measurement loses no step
                _take_measure(standing, measure, kept, done, log, accelerator)
                wrapped.train()
            if _is_over(standing, config):
                if log is not None and done < config.iterations:
                    log.say(f"stopped early: {standing.stale} measurements without a better result (train.patience)")
                break
    accelerator.wait_for_everyone()
    return kept


def _open_log(folder: Path, start: int, config: TrainConfig, tell: Tell | None) -> TrainingLog:
    if not start:
        remove_checkpoints(folder)  # from another run, or incomplete
    pictures = config.batch_size * config.accumulate
    return TrainingLog(folder / LOG, start, config.iterations, config.log_every, pictures, tell)


def _take_measure(
    standing: Standing,
    measure: Measure | None,
    kept: nn.Module,
    done: int,
    log: TrainingLog | None,
    accelerator: Accelerator,
) -> None:
    """Measure `kept` on the main process, and give all processes the same `standing.stale`."""
    if log is not None and measure is not None:
        with log.paused():
            standing.take(measure(kept, done, standing.best))
    standing.stale = _agree(standing.stale, accelerator)


def _generator(seed: int, iteration: int, process: int) -> torch.Generator:
    """Return a generator seeded by the iteration, so that a resumed run makes the same random choices."""
    return torch.Generator().manual_seed((seed * 1_000_003 + iteration) * 1_009 + process)


def _backward(
    model: nn.Module,
    parts: Sequence[P],
    losses_of: LossesOf[P],
    generator: torch.Generator,
    iteration: int,
    accelerator: Accelerator,
) -> list[Terms]:
    """Accumulate the mean gradient of the parts, and return the losses of each part.

    The processes share their gradients once, after the last part.
    """
    found: list[Terms] = []
    for number, part in enumerate(parts, start=1):
        with accelerator.no_sync(model) if number < len(parts) else nullcontext():
            losses = losses_of(model, part, generator, iteration)
            accelerator.backward(torch.stack(list(losses.values())).sum() / len(parts))
        found.append({name: loss.detach() for name, loss in losses.items()})
    return found


def _is_due(done: int, every: int, config: TrainConfig) -> bool:
    return bool(every) and (done % every == 0 or done == config.iterations)


def _is_over(standing: Standing, config: TrainConfig) -> bool:
    return bool(config.patience) and standing.stale >= config.patience


def _agree(number: int, accelerator: Accelerator) -> int:
    """Return the value of the main process in all processes."""
    return int(broadcast(torch.tensor(number, device=accelerator.device)))


def _state(
    optimizer: torch.optim.Optimizer, standing: Standing, log: TrainingLog, accelerator: Accelerator
) -> dict[str, Any]:
    """Return the state, without the weights, that resuming needs."""
    state = {"optimizer": optimizer.state_dict(), "standing": vars(standing), "log": log.state()}
    return state if accelerator.scaler is None else state | {"scaler": accelerator.scaler.state_dict()}


def _restore(folder: Path, weights: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    found = list_checkpoints(folder)
    if not found:
        return {}
    state = load_checkpoint(found[-1], weights)
    if not state.keys() >= NEEDED:
        raise ModelError(f"{found[-1]}: another version wrote this checkpoint; {advice(found[-1])}")
    try:
        optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{found[-1]}: cannot be resumed with another optimizer or other frozen parts; keep the run's settings"
        ) from None
    return state


def _numbers(losses: Sequence[Terms], norm: Tensor, rate: float, accelerator: Accelerator) -> dict[str, float]:
    """Return the mean losses over parts and processes as Python floats for the log."""
    values = torch.stack([torch.stack(list(part.values())) for part in losses]).mean(dim=0)
    reduced: Tensor = accelerator.reduce(torch.cat([values, values.sum()[None]]), "mean")
    return dict(zip([*losses[0], "total"], reduced.tolist(), strict=True)) | {"grad_norm": float(norm), "lr": rate}


def _not_finite(numbers: Mapping[str, float], precision: str) -> str:
    """Return the names of losses that are not finite.

    The check includes gradients: a gradient that is not finite spoils the weights before a loss shows the fault.
    """
    tried = {"grad_norm"} if precision == "fp16" else set()  # with fp16, the scaler skips the step and lowers the scale
    return ", ".join(name for name, value in numbers.items() if not math.isfinite(value) and name not in tried)
