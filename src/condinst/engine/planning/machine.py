"""What this machine has for a training run: free memory, precision; and what one picture takes, by trying."""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch
from accelerate import PartialState
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import Collate
from condinst.data.dataset import TrainingSet
from condinst.data.sample import AnnotatedData
from condinst.engine.losses import Part, assign_batch, condinst_losses
from condinst.engine.planning.plan import Machine
from condinst.inference.network import half_type
from condinst.memory import free_memory
from condinst.model.condinst import CondInst
from condinst.structures import STRIDES
from condinst.training.targets import measure_norms
from condinst.weights.outline import count_parameters

NARROW = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "no"}
COPIES = 5  # of each parameter: itself, its gradient, the optimizer's two and the moving average
BACKWARD = (
    1.5  # the backward pass needs room for gradients and for convolutions to work in, beside what was kept for it
)


def look_at_machine(config: Config, state: PartialState) -> Machine:
    """Of this process; those of one machine share its memory evenly."""
    device = state.device
    taken = COPIES * 4 * count_parameters(config.model)["total"]
    if device.type == "cuda":
        free, name, resident = torch.cuda.mem_get_info(device)[0], torch.cuda.get_device_name(device), 0
    else:
        free, name = free_memory() // state.num_processes, f"this machine's {device.type}"
        resident = psutil.Process().memory_info().rss
    cores = _cores() // state.num_processes
    return Machine(state.num_processes, NARROW[half_type(device)], free, taken, cores, name, resident)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def weigh_picture(config: Config, data: AnnotatedData, device: torch.device) -> int:
    """Bytes that the fullest picture, as training sees it, takes from its forward pass to the end of its backward pass.

    The network does one forward pass with random weights; what autograd keeps of it is counted.
    """
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": data.classes})})
    settings, run = config.model, config.train
    fullest = max(range(len(data.samples)), key=lambda index: len(data.samples[index].instances))
    stride = settings.mask_head.mask_out_stride
    example = TrainingSet(data, config.augment, stride, run.seed, config.input.range)[(0, fullest)]
    collate = Collate(settings.pixel_mean, settings.pixel_std, settings.channel_order, settings.size_divisor)
    # batch norms refuse a level of a single pixel, which two such pictures are not
    copies = 2 if max(collate([example]).images.tensor.shape[-2:]) <= STRIDES[-1] else 1
    batch = collate([example] * copies).to(device)
    model = CondInst(settings).to(device).train()
    model.set_recompute(run.recompute)
    targets = assign_batch(batch, config)
    one = torch.ones((), device=device)
    part = Part(batch, targets, measure_norms(targets), one, one)
    kept: dict[int, int] = {storage(weight): 0 for weight in model.parameters()}  # not the picture's

    def keep(tensor: Tensor) -> Any:
        kept.setdefault(storage(tensor), tensor.untyped_storage().nbytes())
        return tensor

    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run.precision)
    with (
        torch.autocast(device.type, narrow or torch.bfloat16, enabled=narrow is not None),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        losses = condinst_losses(model, part, torch.Generator().manual_seed(run.seed), 0, config)
    del losses  # only now: while autograd holds the tensors, no two share an address
    return int(BACKWARD * sum(kept.values())) // copies


def storage(tensor: Tensor) -> int:
    """What tells the memory behind a tensor from other tensors'."""
    return tensor.untyped_storage().data_ptr()
