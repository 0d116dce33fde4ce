"""Batch norms of networks with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def settle_norms(model: nn.Module, tensor: Tensor) -> None:
    """Batch norms take their statistics from one picture, so that random weights make ordinary numbers."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
    with torch.no_grad():
        model.train()(tensor)
    for norm in norms:
        norm.momentum = 0.1
