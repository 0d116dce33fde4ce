"""Batch norm whose numbers never change."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn


class FrozenNorm(nn.BatchNorm2d):
    """(N, C, H, W) → the same shape, by fixed statistics, scale and bias, as one product and one sum.

    Equals `nn.BatchNorm2d` in evaluation mode to rounding, under the same tensor names; but for the backward pass it
    keeps nothing of the map's size.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> Self:
        """The same function as `norm`, with its tensors."""
        frozen = cls(norm.num_features, norm.eps)
        frozen.load_state_dict(norm.state_dict())
        return frozen.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])
