"""A training step on two pictures of 800×1333 with fourteen instances: the published way beside ours.

    python -m benchmarks.speed.training_step

Both run the same R50-FPN, losses and optimizer. The reference draws every mask at full size, keeps those bitmaps
through the step and runs the grouped convolution on the positives. A step begins with pictures and polygons in memory.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from benchmarks.speed import reference
from benchmarks.speed.measure import (
    REFERENCE,
    RESULTS,
    ROOT,
    Device,
    KeepPages,
    Out,
    Rounds,
    Threads,
    Work,
    check_device,
    peak_memory,
    race_apart,
    run_benchmark,
    save,
    set_threads,
    synchronize,
)
from benchmarks.speed.models.busy import CLASSES, busy_config, busy_model, busy_picture
from condinst.config import Config
from condinst.data.batch import Batch, Collate, Example
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Array8, Instance, Polygons, Sample
from condinst.data.truth import draw_truth
from condinst.engine.batches import make_steps
from condinst.engine.losses import prepare, step_losses
from condinst.engine.optimizer import make_optimizer
from condinst.engine.processes import make_accelerator
from condinst.structures import STRIDES, Truth
from condinst.training import objective
from condinst.training.targets import assign

OURS, OURS_BF16, OURS_LEAN = "float32, channels_last", "bf16, channels_last", "bf16, channels_last, recompute"
ME = "benchmarks.speed.training_step"  # for the processes that import it
PICTURES, INSTANCES, SIZE = 2, 14, (800, 1333)
BATCHES = 30  # that are loaded to see how long one takes
COCO = ROOT / "tests" / "data" / "coco_mini"
SIDES = (48, 72, 100, 144, 200, 280, 400)  # pixels: one instance of each in every picture
SETTINGS: dict[str, list[str]] = {
    REFERENCE: [],
    OURS: ["train.channels_last=true"],
    OURS_BF16: ["train.precision=bf16", "train.channels_last=true"],
    OURS_LEAN: ["train.precision=bf16", "train.channels_last=true", "train.recompute=true"],
}


def main(
    device: Device = "cpu", rounds: Rounds = 3, threads: Threads = 0, keep_pages: KeepPages = False, out: Out = RESULTS
) -> None:
    """Time and peak memory of a step."""
    check_device(device)
    set_threads(threads)
    what = "training step"
    contestants = {who: {"who": who} for who in SETTINGS}
    measurements = race_apart(ME, "contestant", what, contestants, rounds, device)
    for who in () if keep_pages else SETTINGS:
        measurements.append(peak_memory(ME, "contestant", what, who, device, {"who": who}))
    settings = {
        "model": "ResNet-50-FPN, 80 classes, norms and the first stage frozen, SGD",
        "batch": f"{PICTURES} pictures of {SIZE[0]}×{SIZE[1]} with {INSTANCES} instances",
        "positives": str(count_positives()),
        "data loading": ", ".join(f"{load_batch(workers):.0f} ms a batch by {workers} workers" for workers in (0, 1, 2))
        + f"; {PICTURES} pictures of COCO read from JPEG, resized to 640–800 px and flipped, their polygons drawn",
    }
    save("training_step", device, settings, measurements, out, keep_pages)


def contestant(who: str, device: str) -> Work:
    """A step of `fit`, from pictures and polygons to changed weights; returns the times of its parts."""
    torch.manual_seed(0)
    config = busy_config().with_overrides(SETTINGS[who])
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    accelerator = make_accelerator(config)
    model = busy_model(config).train()
    model.set_recompute(config.train.recompute)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    model, optimizer = accelerator.prepare(model, make_optimizer(model, config.train))
    samples = [polygon_sample(index) for index in range(PICTURES)]
    pictures = [busy_picture(*SIZE) for _ in samples]
    batch_of = partial(reference_batch if who == REFERENCE else our_batch, samples, pictures, config)
    return partial(step, who == REFERENCE, model, optimizer, batch_of, config, accelerator)


def load_batch(workers: int) -> float:
    """Milliseconds between two batches of real pictures that nothing but the loop itself waits for."""
    overrides = [f"train.workers={workers}", f"train.batch_size={PICTURES}", f"train.iterations={BATCHES + 1}"]
    config = busy_config().with_overrides(overrides)
    AcceleratorState._reset_state(reset_partial_state=True)
    steps = make_steps(0, config, read_coco(COCO / "train.json", COCO / "images"), make_accelerator(config))
    next(steps)  # workers start
    start = time.perf_counter()
    done = len(list(steps))
    return 1000 * (time.perf_counter() - start) / done


def step(
    published: bool,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[], tuple[Batch, Tensor | None]],
    config: Config,
    accelerator: Accelerator,
) -> Mapping[str, float]:
    clock = Clock(accelerator.device.type)
    batch, kept = batch_of()
    if config.train.channels_last:
        tensor = batch.images.tensor.contiguous(memory_format=torch.channels_last)
        batch = batch._replace(images=batch.images._replace(tensor=tensor))
    batch = batch.to(accelerator.device)
    clock.note("truth and batch")
    with published_mask_head() if published else nullcontext():
        (part,) = prepare([batch], config, accelerator)
        losses = step_losses(model, part, torch.Generator().manual_seed(0), 0, config, accelerator)
    total = torch.stack(list(losses.values())).sum()
    clock.note("forward")
    optimizer.zero_grad()
    accelerator.backward(total)
    clock.note("backward")
    accelerator.clip_grad_norm_(model.parameters(), math.inf)
    optimizer.step()
    clock.note("optimizer")
    del kept  # the published program holds the bitmaps until here
    return clock.times


class Clock:
    """times: milliseconds between one note and the next."""

    def __init__(self, device: str) -> None:
        self.device, self.times, self.start = device, dict[str, float](), time.perf_counter()

    def note(self, part: str) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.times[part], self.start = 1000 * (now - self.start), now


@contextmanager
def published_mask_head() -> Iterator[None]:
    """The objective draws its positives by grouped convolution."""
    with patch.object(objective, "dynamic_mask_head", side_effect=reference.mask_head) as drawn:
        yield
    assert drawn.called, "the objective draws its masks elsewhere now; patch that"


def our_batch(samples: list[Sample], pictures: list[Array8], config: Config) -> tuple[Batch, Tensor | None]:
    identity = np.eye(2, 3)
    stride = config.model.mask_head.mask_out_stride
    truths = [draw_truth(sample, identity, *SIZE, stride) for sample in samples]
    return collate(pictures, truths, config), None


def reference_batch(samples: list[Sample], pictures: list[Array8], config: Config) -> tuple[Batch, Tensor | None]:
    """The bitmaps come along, padded as the batch is."""
    divisor = config.model.size_divisor
    padded = (-(-SIZE[0] // divisor) * divisor, -(-SIZE[1] // divisor) * divisor)
    drawn = [reference.draw_truth(sample, SIZE, padded, config.model.mask_head.mask_out_stride) for sample in samples]
    return collate(pictures, [truth for truth, _ in drawn], config), torch.cat([bitmaps for _, bitmaps in drawn])


def collate(pictures: list[Array8], truths: list[Truth], config: Config) -> Batch:
    model = config.model
    gather = Collate(model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor)
    return gather([Example(picture, SIZE, truth) for picture, truth in zip(pictures, truths, strict=True)])


def polygon_sample(index: int) -> Sample:
    """A picture with one round, dented object of each of SIDES."""
    rng = np.random.default_rng(index)
    instances = []
    for number, side in enumerate(SIDES):
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = side / 2 * (0.85 + 0.15 * np.cos(rng.integers(3, 7) * angles))
        centre = rng.uniform(side / 2, (SIZE[1] - side / 2, SIZE[0] - side / 2))
        points = centre + np.stack((radius * np.cos(angles), radius * np.sin(angles)), axis=1)
        box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
        label = int(rng.integers(CLASSES))
        instances.append(Instance(label, box, Polygons((points,)), crowd=False, annotation_id=number))
    return Sample(Path(f"picture {index}"), index, SIZE[1], SIZE[0], tuple(instances))


def count_positives() -> int:
    """Locations that draw a mask in the step."""
    config = busy_config()
    batch, _ = our_batch([polygon_sample(index) for index in range(PICTURES)], [busy_picture(*SIZE)] * 2, config)
    height, width = batch.images.tensor.shape[2:]
    levels = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    targets = assign(batch.truths, levels, config.model.size_ranges, CLASSES, config.targets.center_radius)
    return int((targets.instance_index >= 0).sum())


if __name__ == "__main__":
    run_benchmark(main)
