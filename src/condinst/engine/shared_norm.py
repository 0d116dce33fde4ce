"""Batch norm with statistics shared by all CPU processes. torch has a version for GPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as differentiable


class SharedNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the pictures of all processes. All processes need equally many pictures of one size."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SharedNorm:
        """Make a shared norm with the same parameters, statistics and names."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.__dict__.update(norm.__dict__)
        return shared

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape and dtype."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        mean = average(values.mean(dim=(0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = average(centred.square().mean(dim=(0, 2, 3)))
        self._remember(mean, variance, values[:, 0].numel() * dist.get_world_size())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


def average(values: Tensor) -> Tensor:
    """Sum over the processes, with a gradient."""
    total: Tensor = differentiable.all_reduce(values)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()


def share_norms(part: nn.Module) -> list[str]:
    """Replace plain batch norms within `part`. Return the names of other norms that learn statistics."""
    for parent in list(part.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                parent.register_module(name, SharedNorm.of(child))
    return [
        name
        for name, norm in part.named_modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training and not isinstance(norm, SharedNorm)
    ]
