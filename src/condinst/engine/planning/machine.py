"""Measure what a training run can use: free memory, cores and precision."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState

from condinst.engine.planning.plan import Machine
from condinst.inference.network import half_type
from condinst.memory import free_memory, resident_memory

NARROW = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "no"}
READER = 150 * 2**20  # bytes that a process which reads pictures holds for itself; measured on Linux


def look_at_machine(state: PartialState) -> Machine:
    """The machine as this process sees it. Processes of one machine share its memory and cores evenly."""
    device = state.device
    cores = _cores() // state.num_processes
    if device.type == "cuda":
        free, name, resident, reader = torch.cuda.mem_get_info(device)[0], torch.cuda.get_device_name(device), 0, 0
    else:
        free, name = free_memory() // state.num_processes, f"this machine's {device.type}"
        resident, reader = resident_memory(), READER
    return Machine(state.num_processes, NARROW[half_type(device)], free, cores, name, resident, reader)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
