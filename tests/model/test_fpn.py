"""FPN against its own convolutions applied step by step."""

import torch
from torch import Tensor

from condinst.model.pyramids.fpn import FPN


def run() -> tuple[FPN, list[Tensor], tuple[Tensor, ...]]:
    torch.manual_seed(0)
    fpn = FPN((3, 4, 5), 6)
    features = [torch.randn(2, c, h, w) for c, h, w in ((3, 16, 24), (4, 8, 12), (5, 4, 6))]
    return fpn, features, fpn(features)


def twice(maps: Tensor) -> Tensor:
    return maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_sizes() -> None:
    _, _, levels = run()
    assert [tuple(level.shape) for level in levels] == [(2, 6, *s) for s in ((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))]


def test_top_down_sum_then_output() -> None:
    fpn, (c3, c4, c5), levels = run()
    merged5 = fpn.laterals[2](c5)
    merged4 = fpn.laterals[1](c4) + twice(merged5)
    merged3 = fpn.laterals[0](c3) + twice(merged4)
    for level, merged, output in zip(levels, (merged3, merged4, merged5), fpn.outputs, strict=False):
        assert torch.allclose(level, output(merged), atol=1e-5)


def test_p6_is_made_of_p5_and_p7_of_its_relu() -> None:
    fpn, _, (_, _, p5, p6, p7) = run()
    assert torch.allclose(p6, fpn.p6(p5), atol=1e-6)
    assert (p6 < 0).any()
    assert torch.allclose(p7, fpn.p7(p6.clamp(min=0)), atol=1e-6)


def test_every_convolution_has_a_bias_that_starts_at_zero() -> None:
    fpn, _, _ = run()
    biases = [p for name, p in fpn.named_parameters() if name.endswith("bias")]
    assert len(biases) == 8
    assert not any(bias.any() for bias in biases)
