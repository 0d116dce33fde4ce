"""A recipe and a data set in, a trained model folder out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from condinst.config import Config
from condinst.data.batch import Batch, Collate
from condinst.data.coco import CocoData
from condinst.data.dataset import TrainingSet
from condinst.engine.batches import BatchKeys
from condinst.engine.fit import fit
from condinst.errors import DataError, UsageError
from condinst.model.condinst import CondInst, filter_layout
from condinst.structures import NetworkOutput, Norms
from condinst.training.objective import objective
from condinst.training.targets import assign, measure_norms
from condinst.weights.backbone import load_backbone_weights
from condinst.weights.folder import save_model


def train(
    config: Config,
    data: CocoData,
    folder: Path,
    resume: bool = False,
    after: Callable[[nn.Module, int], None] | None = None,
) -> Config:
    """Train on `data` and write config.yaml and model.safetensors to `folder`; returns the configuration used.

    The classes are the data set's. `after(module, iteration)` runs every `train.validate_every` iterations. Raises
    UsageError, DataError or ModelError for settings, data or weights that cannot be used.
    """
    if not any(sample.instances for sample in data.samples):
        raise DataError("the training set has no annotated instance; check the annotation file")
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": data.classes})})
    accelerator = make_accelerator(config)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.train.seed)
    model = CondInst(config.model, pretrained=config.train.init == "imagenet")
    if config.train.init not in {"imagenet", "none"}:
        load_backbone_weights(model.backbone.body, Path(config.train.init))
    accelerator.print(f"backbone {config.model.backbone.name}, licence {model.backbone.licence}", file=sys.stderr)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
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


def make_batches(start: int, config: Config, data: CocoData, accelerator: Accelerator) -> Iterable[Batch]:
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
    model: nn.Module, batch: Batch, generator: torch.Generator, config: Config, accelerator: Accelerator
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
    losses = objective(
        output,
        targets,
        Norms(positives, centerness),
        config.loss,
        filter_layout(settings),
        settings.mask_head,
        settings.coordinate_scales,
        config.targets.max_mask_positives,
        generator,
    )
    return losses._asdict()
