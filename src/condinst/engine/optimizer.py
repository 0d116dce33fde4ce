"""Optimizer and learning rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from condinst.settings.training import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make SGD or AdamW for the trainable parameters.

    Norms get no weight decay, unless `decay_norms`; with AdamW, biases and scales get none. The backbone has its own
    learning rate factor.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    plain_norms = (m for m in model.modules() if _is_norm(m) and not config.decay_norms)
    norms = {id(p) for m in plain_norms for p in m.parameters(recurse=False)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = id(parameter) in norms or (config.optimizer == "adamw" and parameter.ndim <= 1)
        lr = config.lr * (config.backbone_lr_factor if name.startswith("backbone.") else 1)
        groups.setdefault((lr, 0.0 if plain else config.weight_decay), []).append(parameter)
    options = [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(options, lr=config.lr)
    return torch.optim.SGD(options, lr=config.lr, momentum=config.momentum)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)


def lr_factor(iteration: int, config: TrainConfig) -> float:
    """Return the factor of the base learning rate at `iteration` (from 0): a warm-up, then steps or a cosine."""
    if iteration < config.warmup_iterations:
        if config.warmup == "constant":
            return config.warmup_factor
        # flat_cosine follows mmengine: the last iteration of the warm-up has the full rate already
        steps = max(config.warmup_iterations - 1, 1) if config.schedule == "flat_cosine" else config.warmup_iterations
        share = iteration / steps
        return config.warmup_factor * (1 - share) + share
    if config.schedule == "step":
        return 0.1 ** sum(iteration >= milestone * config.iterations for milestone in config.milestones)
    flat = config.schedule == "flat_cosine"
    start = config.flat_part * config.iterations if flat else config.warmup_iterations
    lowest = config.final_factor if flat else 0.0
    progress = (iteration - start) / max(config.iterations - start, 1)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0), 1)))
