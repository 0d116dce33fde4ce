"""Measure the memory of training by whole steps at the largest size that the augmentation draws."""

from __future__ import annotations

import gc

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from condinst.config import Config
from condinst.data.batch import Batch, Collate, Example
from condinst.data.sample import AnnotatedData, Sample
from condinst.data.transforms import resize_shape
from condinst.engine.batches import make_training_set
from condinst.engine.losses import Goal, assign, forward, losses_of
from condinst.engine.optimizer import make_optimizer
from condinst.engine.planning.plan import ROOM, Need
from condinst.errors import CondinstError
from condinst.memory import forget_peak, peak_memory, resident_memory
from condinst.methods.choose import build_network, method_of
from condinst.model.instance_network import InstanceNetwork
from condinst.predictor import Predictor
from condinst.settings.training import AugmentConfig
from condinst.structures import Norms

FOUND = 2.0  # logit of every class: a trial of measuring finds as many objects as the settings allow


def measure_need(
    config: Config, data: AnnotatedData, val: AnnotatedData | None, device: torch.device, free: int
) -> Need:
    """Train a network with random weights for two steps, with one and with two pictures, and measure on a picture.

    The pictures are the fullest of `data`, as large as the augmentation makes any. val: data to measure on. free: bytes
    that the process may still take; a step of two pictures that would need more is not tried.
    """
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": data.classes})})
    model = build_network(config.model).to(device).train()
    model.set_recompute(config.train.recompute)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    trial = _Trial(config, model, device)
    example, canvas = _fullest(config, data), largest_canvas(config, data)
    fewest = (
        2 if max(canvas) <= config.model.geometry.strides[-1] else 1
    )  # batch norms refuse a level of a single pixel
    held = _held(device)
    one = trial.step(example, canvas, fewest)
    more = one - held
    if 2 * more < ROOM * free:
        more = max(trial.step(example, canvas, fewest + 1) - one, 1)
    measuring = trial.measure(_largest(val)) if val is not None else 0
    weights = trial.weights()
    del trial, model
    _forget(device)  # the trial is no part of the run's peak
    picture = 4 * 3 * canvas[0] * canvas[1]
    return Need(one - (fewest - 1) * more, more, measuring, picture, weights, kept_bytes(config, data))


class _Trial:
    """A network, its optimizer and its moving average, as in training."""

    def __init__(self, config: Config, model: InstanceNetwork, device: torch.device) -> None:
        self.config, self.model, self.device = config, model, device
        self.average = AveragedModel(model, use_buffers=True) if config.train.ema_decay else None
        self.optimizer = make_optimizer(model, config.train)

    def step(self, example: Example, canvas: tuple[int, int], pictures: int) -> int:
        """Take a step with copies of one picture, padded to `canvas`; return the peak in bytes."""
        _forget(self.device)
        settings, run = self.config.model, self.config.train
        collate = Collate(
            settings.pixel_mean, settings.pixel_std, settings.channel_order, settings.size_divisor, settings.pad_value
        )
        batch = _pad(collate([example] * pictures), canvas).to(self.device)
        if run.channels_last:
            tensor = batch.images.tensor.contiguous(memory_format=torch.channels_last)
            batch = batch._replace(images=batch.images._replace(tensor=tensor))
        narrow = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run.precision)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, narrow or torch.bfloat16, enabled=narrow is not None):
            output = forward(self.model, batch.images.tensor)
            targets, share = assign(output, batch, self.config), torch.ones((), device=self.device)
            counts = method_of(settings).count(targets, self.config)
            goal = Goal(targets, Norms(counts.positives, counts.quality), share, share)
            losses = losses_of(output, goal, batch, torch.Generator().manual_seed(run.seed), 0, self.config)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return _peak(self.device)

    def weights(self) -> int:
        """Bytes of the network and of its average."""
        modules = [self.model] if self.average is None else [self.model, self.average]
        return sum(tensor.nbytes for module in modules for tensor in module.state_dict().values())

    def measure(self, sample: Sample) -> int:
        """Predict a picture with as many objects as the settings allow; return the peak in bytes."""
        _forget(self.device)
        kept = self.model if self.average is None else self.average.module
        with torch.no_grad():
            for name, parameter in kept.named_parameters():
                if name.startswith("head.class_logits.") and name.endswith("bias"):
                    parameter.fill_(FOUND)
        assert isinstance(kept, InstanceNetwork)
        try:
            everything = self.config.with_overrides(["detect.score_threshold=0"])  # a softmax gives low scores
            predictor = Predictor.from_model(kept, everything, str(self.device))
            predictor(sample.path).to_coco(1, {label: label + 1 for label in predictor.names})
        except CondinstError:  # measuring reports a file that cannot be read
            return 0
        return _peak(self.device)


def kept_bytes(config: Config, data: AnnotatedData) -> int:
    """Bytes of the decoded pictures that a process keeps at most: the largest ones of `data`."""
    sizes = sorted((3 * sample.width * sample.height for sample in data.samples), reverse=True)
    return sum(sizes[: config.augment.cache])


def largest_canvas(config: Config, data: AnnotatedData) -> tuple[int, int]:
    """The (height, width) of the largest batch that the augmentation draws from the pictures of `data`."""
    augment, divisor = config.augment, config.model.size_divisor
    sizes = {(sample.height, sample.width) for sample in data.samples}
    drawn = [_largest_size(height, width, augment, config.input.stretch) for height, width in sizes]
    if augment.part and not config.input.stretch:  # a part may have any proportions
        longest = int(augment.longer * augment.jitter[1] + 0.5)
        drawn.append((min(longest, augment.crop or longest),) * 2)
    if augment.mosaic or augment.mixup or config.input.letterbox:
        drawn.append((augment.crop, augment.crop))
    height, width = (max(sides) for sides in zip(*drawn, strict=True))
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _largest_size(height: int, width: int, augment: AugmentConfig, stretch: bool) -> tuple[int, int]:
    factor = augment.jitter[1]
    longer = augment.longer * factor
    stretched = (int(longer + 0.5),) * 2
    sides = stretched if stretch else resize_shape(height, width, max(augment.shorter) * factor, longer)
    height, width = (min(side, augment.crop or side) for side in sides)
    return (max(height, width), max(height, width)) if augment.turns else (height, width)


def _fullest(config: Config, data: AnnotatedData) -> Example:
    """The picture with the most objects, as large as the augmentation makes it."""
    fullest = max(range(len(data.samples)), key=lambda index: len(data.samples[index].instances))
    augment = config.augment
    low, factor = augment.jitter
    if augment.mosaic and augment.mosaic_kind == "canvas":  # then the crop shows the whole canvas
        factor = min(max(low, augment.crop / (2 * augment.longer)), factor)
    largest = {"jitter": (factor, factor), "shorter": (max(augment.shorter),), "part": False, "surroundings": 1.0}
    pictures = make_training_set(config, data, augment.model_copy(update=largest))
    return pictures[(0, fullest)]


def _largest(val: AnnotatedData) -> Sample:
    return max(val.samples, key=lambda sample: sample.width * sample.height)


def _pad(batch: Batch, canvas: tuple[int, int]) -> Batch:
    tensor = batch.images.tensor
    height, width = (max(want - have, 0) for want, have in zip(canvas, tensor.shape[-2:], strict=True))
    return batch._replace(images=batch.images._replace(tensor=F.pad(tensor, (0, width, 0, height))))


def _held(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_memory()


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
