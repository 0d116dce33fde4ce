"""What the hardware would need at least: operations over its measured rate, bytes over its measured bandwidth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.measure import Measurement, measurement, show, synchronize

ROUNDS = 7
FLOOR = {torch.float32: "floor in float32", torch.bfloat16: "floor in bfloat16"}
SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices that are multiplied
CHANNELS, MAP = 256, 128  # of the convolution
COPIED = {"cpu": 2**28, "cuda": 2**31}  # bytes, far more than any cache holds


class Rates(NamedTuple):
    """operations: per second, by type, at best. bytes: per second, of a large copy, both ways."""

    operations: dict[torch.dtype, float]
    bytes: float


def measure_rates(device: str) -> Rates:
    """The best of several rounds each."""
    operations = {dtype: max(_product_rate(dtype, device), _convolution_rate(dtype, device)) for dtype in FLOOR}
    source = torch.zeros(COPIED[device] // 4, device=device)
    target = torch.empty_like(source)
    return Rates(operations, 2 * COPIED[device] / _best(lambda: target.copy_(source), device))


def _product_rate(dtype: torch.dtype, device: str) -> float:
    side = SIDE[device]
    one, other = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: one @ other, device)


def _convolution_rate(dtype: torch.dtype, device: str) -> float:
    """Of a 3×3 convolution as the network's heads have it, in the memory format that suits it."""
    maps = torch.rand(1, CHANNELS, MAP, MAP, device=device).to(dtype, memory_format=torch.channels_last)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return 2 * weight.numel() * MAP**2 / _best(lambda: F.conv2d(maps, weight, padding=1), device)


def count_operations(run: Callable[[], object]) -> int:
    """Of the convolutions and matrix products in it, a multiplication and an addition each counting as one."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def floors(rates: Rates, operations: Mapping[str, int], traffic: Mapping[str, int]) -> list[Measurement]:
    """Floors by stage: the larger of operations and of bytes that must be moved, where they are known."""
    seconds = {
        (what, who): max(count / rates.operations[dtype], traffic.get(what, 0) / rates.bytes)
        for what, count in operations.items()
        for dtype, who in FLOOR.items()
    }
    return [show(measurement(what, who, "ms", [1000 * value])) for (what, who), value in seconds.items()]


def size_of(*tensors: Tensor) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _best(run: Callable[[], object], device: str) -> float:
    """Seconds."""
    times = []
    for _ in range(ROUNDS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
