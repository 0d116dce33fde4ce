"""Maps with one column: the gradient in bfloat16 training."""

import pytest
import torch
from torch import Tensor

from condinst.model.pyramids.fpn import FPN


def gradients(fpn: FPN, features: list[Tensor], narrow: bool) -> dict[str, Tensor]:
    fpn.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        levels = fpn(features)
    sum((level.float() ** 2).sum() for level in levels[3:]).backward()  # type: ignore[union-attr]
    return {name: weight.grad.clone() for name, weight in fpn.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("size", [(8, 8), (32, 8), (4, 4)])
def test_gradients_in_half_precision(size: tuple[int, int]) -> None:
    """Near those in single precision, whatever the memory held before; torch alone leaves parts of them unwritten."""
    torch.manual_seed(0)
    fpn = FPN((8, 8, 8), 64).train()
    height, width = size
    features = [torch.randn(4, 8, height // step, width // step) for step in (1, 2, 4)]
    single = gradients(fpn, features, narrow=False)
    for _ in range(10):
        junk = [torch.full((64 * 64 * 9 * count,), float("nan")) for count in (1, 2, 3)]
        del junk
        for name, found in gradients(fpn, features, narrow=True).items():
            assert torch.allclose(found, single[name], rtol=0.1, atol=0.05 * float(single[name].abs().max())), name


def test_the_second_column_changes_nothing() -> None:
    torch.manual_seed(0)
    fpn = FPN((8, 8, 8), 16)
    features = [torch.randn(1, 8, 8 // step, 8 // step) for step in (1, 2, 4)]
    for trained, used in zip(fpn.train()(features), fpn.eval()(features), strict=True):
        assert trained.shape == used.shape
        assert torch.allclose(trained, used, atol=1e-6)
