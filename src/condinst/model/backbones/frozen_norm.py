"""A batch norm with fixed statistics, scale and bias."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn


class FrozenNorm(nn.BatchNorm2d):
    """Normalise (N, C, H, W) with fixed statistics, scale and bias, as one product and one sum.

    The result equals `nn.BatchNorm2d` in evaluation mode up to rounding, and its tensors have the same names. It
    keeps no map for the backward pass.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> Self:
        """A FrozenNorm with copies of the tensors of `norm`."""
        frozen = cls(norm.num_features, norm.eps)
        frozen.load_state_dict(norm.state_dict())
        return frozen.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])
