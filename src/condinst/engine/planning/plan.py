"""Settings chosen from the data and the machine, where nobody has chosen them, each with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from condinst.config import Config
from condinst.engine.planning.crowding import words_on_crowding
from condinst.engine.planning.settings import count_iterations
from condinst.engine.planning.statistics import Statistics, share_of_levels
from condinst.settings.kinds import MOST_DETECTIONS

SMALLEST = 16  # pixels, two cells of the finest level: an object has room for positives
SHORTER = (512, 1024)  # of the network's input, whatever the objects
ENLARGED = 4.0  # times, at most: pixels that a picture does not have teach nothing
STEP = 8  # pictures that the rates of the recipe `small` are made for
SEEN = 40  # times that each picture is seen, but
SEEN_AT_LEAST, SEEN_AT_MOST, EPOCHS_AT_LEAST = 2400, 200_000, 12  # pictures seen altogether, and however many there are
FINE_TUNED = 0.5  # of the learning rate, where training begins with a trained model
MOST_WORKERS = 8
ROOM = 0.7  # of the free memory that training may take
READY = 2  # batches that a process which reads pictures has ready, as torch's loader has it


class Machine(NamedTuple):
    """The machine that training runs on.

    precision: the 16-bit one it computes in at speed, or "no". free: bytes for each process. cores: of the processor,
    for each process. resident: bytes that this process holds already. reader: bytes that a process which reads pictures
    takes from the same memory; 0 if training runs in the memory of a GPU.
    """

    processes: int
    precision: str
    free: int
    cores: int
    name: str
    resident: int = 0
    reader: int = 0


class Need(NamedTuple):
    """Memory that one process of a training needs, in bytes.

    step: all that the process holds at the peak of a step with one picture. more: for each further picture in the
    batch. measuring: all that it holds at the peak of measuring. picture: one picture as the network takes it. weights:
    the network and its average. kept: the decoded pictures that each reading process keeps.
    """

    step: int
    more: int
    measuring: int
    picture: int
    weights: int
    kept: int = 0


class Plan(NamedTuple):
    """The settings, a line about each group of them, and the memory in bytes that each process is expected to need."""

    config: Config
    lines: tuple[str, ...]
    memory: int


# config → memory that training with it needs
Weigh = Callable[[Config], Need]


def make_plan(
    config: Config,
    given: frozenset[str],
    statistics: Statistics,
    machine: Machine,
    weigh: Weigh,
    measured: bool,
    fine_tuned: bool,
) -> Plan:
    """Replace settings of `config` but those whose keys are `given`.

    measured: there is data to measure on. fine_tuned: training begins with a trained model.
    """
    lines = [_words_on_data(statistics)]
    config = suit_data(config, given, statistics)
    workers = min(machine.cores // 2, MOST_WORKERS)
    config = _set(config, given, {"train.precision": machine.precision, "train.workers": workers})
    if machine.processes > 1:  # then they compute what one would
        config = _set(config, given, {"train.sync_norms": "all"})
    need = weigh(config)
    config = _choose_batch(config, given, machine, need)
    config = _choose_length(config, given, statistics, measured)
    config = _choose_rate(config, given, fine_tuned)
    memory = expected_memory(config, machine, need)
    return Plan(config, (*lines, *_words(config, statistics, machine, need, fine_tuned)), memory)


def suit_data(config: Config, given: frozenset[str], statistics: Statistics) -> Config:
    """Replace what follows from the data alone, the size of the input and the limits of detection, but for `given`."""
    return _choose_limits(_choose_size(config, given, statistics), given, statistics)


def _set(config: Config, given: frozenset[str], values: dict[str, Any]) -> Config:
    """The configuration with those values that nobody has given."""
    return config.with_overrides([f"{key}={json.dumps(value)}" for key, value in values.items() if key not in given])


def _choose_size(config: Config, given: frozenset[str], data: Statistics) -> Config:
    """A shorter side at which nine objects in ten have SMALLEST pixels, within bounds, and a crop of it.

    A stretched input keeps its size, because the anchors are made for it. Methods with grids see no crops: their grids
    divide the whole picture in training as in prediction.
    """
    if config.input.stretch:
        return config
    wanted = SMALLEST / max(float(np.quantile(data.sizes, 0.1)), 1e-6)
    low, high = min(SHORTER[0], ENLARGED * data.shorter), min(SHORTER[1], ENLARGED * data.shorter)
    shorter = _multiple(min(max(wanted, low), high), 32)
    config = _set(config, given, {"input.shorter": shorter})
    longer = _multiple(config.input.shorter * min(max(data.aspect, 1.0), 2.5), 32)
    config = _set(config, given, {"input.longer": max(longer, config.input.shorter)})
    config = _set(config, given, {"augment.shorter": [config.input.shorter], "augment.longer": config.input.longer})
    # twice as large as nearly all objects, so that few are cut
    crop = _multiple(max(2 * float(np.quantile(data.sides, 0.95)) * config.augment.shorter[0], 384), 64)
    cropped = crop < config.augment.longer and not config.model.grids
    return _set(config, given, {"augment.crop": crop if cropped else 0})


def _choose_limits(config: Config, given: frozenset[str], data: Statistics) -> Config:
    """Room for a quarter more objects than the fullest picture has."""
    most = min(max(math.ceil(1.25 * data.densest / 100) * 100, 100), MOST_DETECTIONS)
    config = _set(config, given, {"detect.max_detections": most})
    return _set(config, given, {"detect.candidates_per_level": max(1000, 4 * config.detect.max_detections)})


def _choose_batch(config: Config, given: frozenset[str], machine: Machine, need: Need) -> Config:
    """Batches of a power of two that fit into the memory, as many of them as make STEP pictures."""
    workers = config.train.workers
    kept = need.kept * max(workers, 1) if machine.reader else 0
    left = ROOM * machine.free - workers * machine.reader - kept - (need.step - machine.resident)
    fitting = 1 + max(int(left / max(need.more, 1)), 0)
    share = min(fitting, max(STEP // machine.processes, 1))
    share = 2 ** int(math.log2(share))
    config = _set(config, given, {"train.batch_size": share * machine.processes})
    return _set(config, given, {"train.accumulate": max(round(STEP / config.train.batch_size), 1)})


def _choose_length(config: Config, given: frozenset[str], data: Statistics, measured: bool) -> Config:
    """Iterations from the number of pictures, and what else counts in iterations."""
    seen = min(max(SEEN * data.pictures, SEEN_AT_LEAST), max(SEEN_AT_MOST, EPOCHS_AT_LEAST * data.pictures))
    if config.train.epochs is None:
        config = _set(config, given, {"train.iterations": math.ceil(seen / pictures_in_step(config))})
    config = count_iterations(config, data.pictures)
    total = config.train.iterations
    often = max(total // 10, 1)
    return _set(
        config,
        given,
        {
            "train.warmup_iterations": min(100, total // 10),
            # the average reaches back over some seventh of the run
            "train.ema_decay": round(max(1 - 7.5 / total, 0.0), 5),
            "train.checkpoint_every": often,
            "train.validate_every": often if measured else 0,
            "train.log_every": max(min(20, total // 20), 1),
        },
    )


def _choose_rate(config: Config, given: frozenset[str], fine_tuned: bool) -> Config:
    """With the root of the pictures in a step for AdamW, in proportion for SGD, as is usual for either."""
    ratio = pictures_in_step(config) / STEP
    scale = math.sqrt(ratio) if config.train.optimizer == "adamw" else ratio
    rate = config.train.lr * scale * (FINE_TUNED if fine_tuned else 1)
    return _set(config, given, {"train.lr": float(f"{rate:.3g}")})


def pictures_in_step(config: Config) -> int:
    """Of all processes and batches that make it."""
    return config.train.batch_size * config.train.accumulate


def expected_memory(config: Config, machine: Machine, need: Need) -> int:
    """Bytes that one process, with the processes that read its pictures, holds at the peak of training.

    Batches that wait count too: those of the same step, and those that each reading process has ready. A reading
    process is a fork: it keeps the first weights while training changes them. Without such processes, this one keeps
    the decoded pictures.
    """
    train = config.train
    share = train.batch_size // machine.processes
    batch = share * need.picture
    step = need.step + (share - 1) * need.more + (train.accumulate - 1) * batch
    readers = train.workers * (machine.reader + need.weights + READY * batch) + max(train.workers, 1) * need.kept
    return max(step, need.measuring) + (readers if machine.reader else 0)


def _multiple(value: float, of: int) -> int:
    return max(round(value / of), 1) * of


def _words_on_data(data: Statistics) -> str:
    low, middle, high = np.quantile(data.sizes, (0.1, 0.5, 0.9)) * data.shorter
    return (
        f"data: {data.pictures} pictures, shorter side {data.shorter:.0f} px; {data.instances} objects, most of them "
        f"{low:.0f} to {high:.0f} px, median {middle:.0f} px; at most {data.densest} in a picture"
    )


def _words(config: Config, data: Statistics, machine: Machine, need: Need, fine_tuned: bool) -> Iterator[str]:
    train, size = config.train, config.input
    small = float((data.sizes * size.shorter >= SMALLEST).mean())
    crop = f", crops of {config.augment.crop}" if config.augment.crop else ""
    side = f"{size.longer}×{size.longer}" if size.stretch else f"shorter side {size.shorter}"
    yield f"input: {side} px; {small:.0%} of the objects then have {SMALLEST} px or more{crop}"
    if config.size_decides_level:  # the dynamic assigner chooses levels in training
        shares = share_of_levels(data.sides * size.shorter, config.model)
        used = ", ".join(f"P{level} {share:.0%}" for level, share in enumerate(shares, start=3) if share >= 0.005)
        yield f"pyramid levels of these objects: {used or 'none'}"
    if config.model.grids:
        yield words_on_crowding(data, config.model, size.shorter)
    yield f"detections: at most {config.detect.max_detections} in a picture"
    parts = f" as {train.accumulate} batches of {train.batch_size}" if train.accumulate > 1 else ""
    yield (
        f"step: {pictures_in_step(config)} pictures{parts}; each takes {need.more / 2**20:.0f} MB, "
        f"{machine.free / 2**30:.1f} GB are free on {machine.name}"
    )
    total = expected_memory(config, machine, need)
    many = f" for each of {machine.processes} processes" if machine.processes > 1 else ""
    readers = train.workers if machine.reader else 0
    with_readers = f", {readers} data-reading process{'es' * (readers > 1)} included" if readers else ""
    yield f"memory: about {total / 2**30:.1f} GB in all{many}{with_readers}"
    rule = "√(pictures ÷ 8)" if train.optimizer == "adamw" else "pictures ÷ 8"
    half = f", × {FINE_TUNED} because training starts from a trained model" if fine_tuned else ""
    yield f"learning rate: {train.lr:g}, proportional to {rule}{half}"
    seen = train.iterations * pictures_in_step(config) / data.pictures
    asked = f", from train.epochs={train.epochs:g}" if train.epochs is not None else ""
    yield f"length: {train.iterations} iterations; training sees each picture {seen:.3g} times{asked}"
    why = "fast on this device" if train.precision != "no" else "because 16 bit is not faster on this device"
    yield f"precision: {train.precision if train.precision != 'no' else 'float32'}, {why}"
