"""Masks as sums of prototypes (YOLACT, arXiv 1904.02689, §3.2)."""

from __future__ import annotations

from torch import Tensor


def mix_prototypes(prototypes: Tensor, coefficients: Tensor) -> Tensor:
    """The probabilities (K, h, w) of prototypes (F, h, w) with coefficients (K, F), not cut to boxes."""
    return (coefficients @ prototypes.flatten(1)).sigmoid().reshape(-1, *prototypes.shape[1:])
