"""The other processes of `measure.race_apart`: makes a contestant, then runs it once for every line it is sent."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time

import torch

from benchmarks.speed.measure import TURN, Work, synchronize


def main(module: str, function: str, device: str, threads: str, arguments: str) -> None:
    torch.set_num_threads(int(threads))
    work: Work = getattr(importlib.import_module(module), function)(device=device, **json.loads(arguments))
    work()
    print(TURN, flush=True)
    for _ in sys.stdin:
        torch.set_num_threads(int(threads))  # some rivals change it
        gc.collect()
        synchronize(device)
        start = time.perf_counter()
        parts = work()
        synchronize(device)
        print(TURN, json.dumps([1000 * (time.perf_counter() - start), dict(parts or {})]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
