"""The order of the training images. It depends only on seed, iteration and process, so that resuming is exact."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from condinst.allocator import return_freed_memory
from condinst.config import Config
from condinst.data.augment.compose import BACKGROUND, Colour
from condinst.data.augment.order import order_of_epoch
from condinst.data.batch import Batch, Collate
from condinst.data.dataset import TrainingSet
from condinst.data.sample import AnnotatedData
from condinst.errors import CondinstError, DataError, first_line
from condinst.settings.training import AugmentConfig

Key = tuple[int, int]  # (epoch, index): the data set makes one augmented sample from it


class BatchKeys(Sampler[list[Key]]):
    """Yield batches of (epoch, index) from iteration `start` to `stop`. Each epoch is a new permutation.

    An iteration takes `parts` batches in sequence. Each batch is split into `processes` equal shares. The function
    yields the share of process `rank`.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        start: int,
        stop: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        parts: int = 1,
    ) -> None:
        self.length, self.batch_size, self.start, self.stop = length, batch_size, start * parts, stop * parts
        self.seed, self.rank, self.share = seed, rank, batch_size // processes

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for batch in range(self.start, self.stop):
            first = batch * self.batch_size + self.rank * self.share
            keys: list[Key] = []
            for position in range(first, first + self.share):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = order_of_epoch(self.length, self.seed, epoch)
                keys.append((epoch, int(order[position % self.length])))
            yield keys


def make_steps(start: int, config: Config, data: AnnotatedData, accelerator: Accelerator) -> Iterator[list[Batch]]:
    """Yield the batches of each step of this process from iteration `start` on, on the device of the process."""
    model, run = config.model, config.train
    dataset = make_training_set(config, data, config.augment)
    keys = BatchKeys(
        len(dataset),
        run.batch_size,
        start,
        run.iterations,
        run.seed,
        accelerator.process_index,
        accelerator.num_processes,
        run.accumulate,
    )
    square = config.augment.crop if config.input.letterbox else 0
    look = model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor, model.pad_value
    collate = Collate(*look, square)
    loader = DataLoader(
        dataset, batch_sampler=keys, num_workers=run.workers, collate_fn=collate, worker_init_fn=_prepare_worker
    )
    step: list[Batch] = []
    for batch in _plain_errors(loader):
        moved = pad_alike(batch.to(accelerator.device), accelerator)
        if run.channels_last:
            tensor = moved.images.tensor.contiguous(memory_format=torch.channels_last)
            moved = moved._replace(images=moved.images._replace(tensor=tensor))
        step.append(moved)
        if len(step) == run.accumulate:
            yield step
            step = []


def make_training_set(config: Config, data: AnnotatedData, augment: AugmentConfig) -> TrainingSet:
    """The training set of a run that augments as `augment` says."""
    model, value = config.model, config.model.pad_value
    mean = model.pixel_mean if model.channel_order == "RGB" else model.pixel_mean[::-1]
    colour: Colour = (int(mean[0]), int(mean[1]), int(mean[2])) if augment.surroundings > 1 else BACKGROUND
    return TrainingSet(
        data,
        augment,
        config.model.truth_stride,
        config.train.seed,
        config.input.range,
        fill=colour if value is None else (round(value),) * 3,
        resampling=config.input.resampling,
        stretch=config.input.stretch,
        plain_from=first_plain_epoch(config, len(data.samples)),
    )


def first_plain_epoch(config: Config, pictures: int) -> int | None:
    """The epoch, from 0, that begins nearest to the start of `augment.plain_part`. None if there is no such part."""
    run, part = config.train, config.augment.plain_part
    if not part:
        return None
    epochs = run.iterations * run.batch_size * run.accumulate / pictures
    return int((1 - part) * epochs + 0.5)


def pad_alike(batch: Batch, accelerator: Accelerator) -> Batch:
    """Pad to the largest picture of all processes, because the padding affects the network's output."""
    if accelerator.num_processes == 1:
        return batch
    tensor = batch.images.tensor
    height, width = tensor.shape[-2:]
    sizes: Tensor = accelerator.gather(torch.tensor([[height, width]], device=accelerator.device))
    most_high, most_wide = sizes.amax(dim=0).tolist()
    padded = F.pad(tensor, (0, most_wide - width, 0, most_high - height))
    return batch._replace(images=batch.images._replace(tensor=padded))


def _prepare_worker(_: int) -> None:
    """Ignore Ctrl-C in a worker process: the main process ends the run. Return the free memory of the main process."""
    return_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the main process ends a worker with SIGTERM
    sys.excepthook = (
        _tell_all_but_lost_connections  # for the threads of multiprocessing; other errors are sent to the main process
    )


def _tell_all_but_lost_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _plain_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the same batches. Shorten an error of a worker process from a traceback to its own line."""
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).strip().splitlines()[-1].removeprefix("condinst.errors.DataError: ")) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise CondinstError(
            f"a process that reads pictures has died ({first_line(error):.120}); give it more memory or train.workers=0"
        ) from error
