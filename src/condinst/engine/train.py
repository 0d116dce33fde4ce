"""A recipe and a data set in, a trained model folder out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.data import DataLoader

from condinst.config import Config
from condinst.data.batch import Batch, Collate
from condinst.data.coco import skip_empty
from condinst.data.dataset import TrainingSet
from condinst.data.sample import AnnotatedData
from condinst.engine.batches import BatchKeys
from condinst.engine.fit import fit
from condinst.errors import DataError, UsageError
from condinst.model.condinst import CondInst, filter_layout
from condinst.structures import NetworkOutput, Norms
from condinst.training.boxinst import find_pairs
from condinst.training.objective import draw_masks, objective
from condinst.training.sampling import choose_positives
from condinst.training.targets import assign, measure_norms
from condinst.weights.backbone import IMAGENET, differences, load_first_weights
from condinst.weights.folder import save_model


def train(
    config: Config,
    data: AnnotatedData,
    folder: Path,
    resume: bool = False,
    after: Callable[[nn.Module, int], None] | None = None,
) -> Config:
    """Train on `data` and write config.yaml and model.safetensors to `folder`; returns the configuration used.

    The classes are the data set's. `after(module, iteration)` runs every `train.validate_every` iterations. Raises
    UsageError, DataError or ModelError for settings, data or weights that cannot be used.
    """
    if config.train.skip_empty:
        data = skip_empty(data)
    if not any(sample.instances for sample in data.samples):
        raise DataError("the training set has no annotated instance; check the annotation file")
    if config.targets.supervision == "boxes":
        data = forget_masks(data)
    if config.model.semantic:
        require_masks(data, "the semantic head learns from masks alone; set model.semantic=false")
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": data.classes})})
    accelerator = make_accelerator(config)
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(config, accelerator)
    for line in (*remarks(model, config), *(f"note: {note}" for note in data.notes)):
        accelerator.print(line, file=sys.stderr)
    kept = fit(
        model,
        partial(condinst_losses, config=config, accelerator=accelerator),
        partial(make_batches, config=config, data=data, accelerator=accelerator),
        config.train,
        folder,
        accelerator,
        resume,
        after,
    )
    if accelerator.is_main_process:
        assert isinstance(kept, CondInst)
        save_model(kept, config, folder, half=config.train.half)
    return config


def forget_masks(data: AnnotatedData) -> AnnotatedData:
    """The same data as if boxes alone had been annotated."""
    samples = (
        replace(sample, instances=tuple(replace(instance, shape=None) for instance in sample.instances))
        for sample in data.samples
    )
    return replace(data, samples=tuple(samples))


def require_masks(data: AnnotatedData, reason: str) -> None:
    """Raise DataError, ending in `reason`, if an instance has a box alone."""
    for sample in data.samples:
        for instance in sample.instances:
            if instance.shape is None and not instance.crowd:
                raise DataError(f"{sample.path}: annotation {instance.annotation_id} has no mask; {reason}")


def make_accelerator(config: Config) -> Accelerator:
    """Processes, device and precision; raises UsageError where they cannot be had or the batch not shared evenly."""
    try:
        accelerator = Accelerator(mixed_precision=config.train.precision)
    except ValueError as error:  # no such precision on this device, or another one earlier in the same process
        raise UsageError(f"train.precision={config.train.precision}: {str(error).splitlines()[0]}") from None
    if config.train.batch_size % accelerator.num_processes:
        raise UsageError(
            f"train.batch_size={config.train.batch_size} cannot be shared by {accelerator.num_processes} processes"
        )
    return accelerator


def build_model(config: Config, accelerator: Accelerator) -> CondInst:
    """The network before its first step, the same in every process."""
    torch.manual_seed(config.train.seed)
    model = CondInst(config.model, pretrained=config.train.init == IMAGENET)
    load_first_weights(model.backbone.body, config.train.init, config.model.backbone.name)
    synchronise_norms(model, config.train.sync_norms, accelerator)
    return model.to(memory_format=torch.channels_last) if config.train.channels_last else model


def synchronise_norms(model: CondInst, which: str, accelerator: Accelerator) -> None:
    """Let batch norms share their statistics over processes; raises UsageError where torch cannot do it."""
    if which == "none" or accelerator.num_processes == 1:
        return
    if accelerator.device.type == "cpu":
        raise UsageError(f"train.sync_norms={which}: torch shares norms on GPUs only; set train.sync_norms=none")
    # timm's, which knows its own norms
    convert_sync_batchnorm(model.fpn if which == "pyramid" else model)  # type: ignore[no-untyped-call]


def remarks(model: CondInst, config: Config) -> Iterator[str]:
    """What whoever starts a run should know about its first weights."""
    init, name = config.train.init, config.model.backbone.name
    yield f"backbone {name}, " + (f"licence {model.backbone.licence}" if init == IMAGENET else f"first weights: {init}")
    differing = differences(config.model, init, model.backbone.body)
    if differing:
        yield f"note: the weights of train.init={init} were trained with {' '.join(differing)}"


def make_batches(start: int, config: Config, data: AnnotatedData, accelerator: Accelerator) -> Iterable[Batch]:
    """This process's batches from iteration `start` on, on its device."""
    model, run = config.model, config.train
    dataset = TrainingSet(data, config.augment, model.mask_head.mask_out_stride, run.seed)
    keys = BatchKeys(
        len(dataset),
        run.batch_size,
        start,
        run.iterations,
        run.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )
    collate = Collate(model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor)
    loader = DataLoader(dataset, batch_sampler=keys, num_workers=run.workers, collate_fn=collate)
    for batch in _plain_errors(loader):
        moved = batch.to(accelerator.device)
        if run.channels_last:
            tensor = moved.images.tensor.contiguous(memory_format=torch.channels_last)
            moved = moved._replace(images=moved.images._replace(tensor=tensor))
        yield moved


def _plain_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; of an error that a worker process sends with its traceback, the error's own line."""
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).strip().splitlines()[-1].removeprefix("condinst.errors.DataError: ")) from None


def condinst_losses(
    model: nn.Module, batch: Batch, generator: torch.Generator, iteration: int, config: Config, accelerator: Accelerator
) -> Mapping[str, Tensor]:
    """One forward pass and the named losses; the normalisers are the means over processes."""
    output: NetworkOutput = model(batch.images.tensor)
    shape, settings = batch.images.tensor.shape[-2:], config.model
    stride = settings.mask_head.mask_out_stride
    targets = assign(
        batch.truths,
        [(int(level.shape[-2]), int(level.shape[-1])) for level in output.head.class_logits],
        settings.size_ranges,
        max(len(settings.classes), 1),
        config.targets.center_radius,
        (shape[0] // stride, shape[1] // stride),
    )
    positives, centerness = accelerator.reduce(torch.stack(measure_norms(targets)), "mean")
    chosen = choose_positives(
        output.head, targets, config.targets.mask_sampling, config.targets.max_mask_positives, generator
    )
    masks = draw_masks(output, targets, chosen, filter_layout(settings), settings.mask_head, settings.coordinate_scales)
    pairs = None if targets.has_mask.all() else find_pairs(batch.images, settings, config.box_supervision)
    losses = objective(output, targets, Norms(positives, centerness), masks, pairs, config.loss)
    warm = min((iteration + 1) / max(config.box_supervision.warmup_iterations, 1), 1)
    return losses._replace(pairwise=warm * losses.pairwise)._asdict()
