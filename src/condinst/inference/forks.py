"""Prediction in a forked process: with one thread, as the threads of the process before the fork do not exist in it."""

from __future__ import annotations

import os
from functools import cache

import torch

from condinst.errors import UsageError


@cache
def expect_forks() -> int:
    """Return the id of the process that first made a network; processes forked from it later compute with one thread.

    OpenMP hangs in a forked process where the process before it computed with several threads. torch's own data loaders
    set one thread, too.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
        os.register_at_fork(after_in_child=_one_thread)
    return os.getpid()


def check_process(device: torch.device) -> None:
    """Raise UsageError where computing on `device` fails or hangs, as this process was forked."""
    if os.getpid() == expect_forks():
        return
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise UsageError(
            "CUDA cannot be used in a process forked after a use of CUDA; start processes with "
            "multiprocessing.get_context('spawn')"
        )
    if device.type == "cpu" and torch.get_num_threads() > 1:
        raise UsageError(
            f"a forked process predicts with one thread, and torch was set to {torch.get_num_threads()}; leave "
            "torch.set_num_threads out, or start processes with multiprocessing.get_context('spawn')"
        )


def _one_thread() -> None:
    torch.set_num_threads(1)
