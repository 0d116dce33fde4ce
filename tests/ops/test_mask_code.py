"""MEInst's mask code: soft labels, encoding and decoding."""

from __future__ import annotations

import math

import torch

from condinst.ops.mask_code import decode_logits, encode, soft_logits
from condinst.structures import MaskCode


def random_code(numbers: int, cells: int) -> MaskCode:
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(cells, numbers, generator=generator))[0].T
    return MaskCode(rows, torch.rand(numbers, generator=generator) * 9 + 0.5, torch.randn(cells, generator=generator))


def test_soft_labels() -> None:
    """v = max(0.05 · U, 0.01): at most 0.05 from 0 and 1, at least 0.01."""
    masks = torch.tensor([[True, True, False, False]])
    logits = soft_logits(masks, torch.tensor([[0.0, 0.999999, 0.1, 0.5]]))
    labels = [0.99, 0.95, 0.01, 0.025]
    assert torch.allclose(logits, torch.tensor([[math.log(p / (1 - p)) for p in labels]]), atol=1e-4)


def test_encode_inverts_decode() -> None:
    code = random_code(6, 16)
    numbers = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    logits = decode_logits(numbers, code)
    by_hand = torch.stack(
        [sum(n * v.sqrt() * c for n, v, c in zip(row, code.variances, code.components, strict=True)) for row in numbers]
    )
    torch.testing.assert_close(logits, by_hand + code.means)
    torch.testing.assert_close(encode(logits, code), numbers, rtol=1e-4, atol=1e-4)


def test_half_precision_computes_in_float32() -> None:
    code = random_code(6, 16)
    narrow = torch.randn(5, 6).bfloat16()
    assert decode_logits(narrow, code).dtype == torch.float32
    assert torch.equal(decode_logits(narrow, code), decode_logits(narrow.float(), code))
    assert decode_logits(narrow[:0], code).shape == (0, 16)
