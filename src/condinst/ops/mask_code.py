"""MEInst's code of square masks: encode, decode and soft labels (arXiv 2003.11712, §3.1)."""

from __future__ import annotations

from torch import Tensor

from condinst.structures import MaskCode

SOFTEST, HARDEST = 0.05, 0.01  # the largest and the smallest distance of a soft label from 0 or 1


def decode_logits(codes: Tensor, code: MaskCode) -> Tensor:
    """Codes (K, D) → the logits (K, m²) of their masks, row by row."""
    components, variances, means = (part.float() for part in code)
    return (codes.float() * variances.sqrt()) @ components + means


def encode(logits: Tensor, code: MaskCode) -> Tensor:
    """Logits (K, m²) of masks → their codes (K, D), which have a variance of about 1."""
    components, variances, means = (part.float() for part in code)
    return (logits - means) @ components.T / variances.sqrt()


def soft_logits(masks: Tensor, uniform: Tensor) -> Tensor:
    """The logits (K, m²) of soft labels of masks (K, m²) bool.

    uniform: (K, m²) in [0, 1), random. A cell has the label 1 − v inside the mask and v outside, with
    v = max(0.05 · uniform, 0.01).
    """
    softness = (SOFTEST * uniform).clamp(min=HARDEST)
    labels = masks.float() * (1 - 2 * softness) + softness
    return (labels / (1 - labels)).log()
