"""Batch norm over processes: alone it is torch's; two halves of a batch give what the whole does."""

import pytest
import torch
from torch import Tensor, nn

from condinst.engine import shared_norm
from condinst.engine.shared_norm import SharedNorm, share_norms


def make() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return norm


def test_it_is_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes with the same pictures: output, gradients; the variance that is kept knows of both."""
    monkeypatch.setattr(shared_norm, "average", lambda values: values)
    monkeypatch.setattr(shared_norm.dist, "get_world_size", lambda: 2)
    torch.manual_seed(0)
    plain = make()
    twice = nn.BatchNorm2d(3)
    twice.load_state_dict(plain.state_dict())
    shared = SharedNorm.of(plain)
    values = torch.randn(2, 3, 5, 4) * 3 + 1
    mine, theirs = values.clone().requires_grad_(), values.repeat(2, 1, 1, 1).requires_grad_()
    ours, whole = shared(mine), twice(theirs)
    assert torch.allclose(ours, whole[:2], atol=1e-5)
    ours.square().cos().sum().backward()
    whole[:2].square().cos().sum().backward()
    assert list(shared.state_dict()) == list(twice.state_dict())
    for key, kept in shared.state_dict().items():
        assert torch.allclose(kept.double(), twice.state_dict()[key].double(), atol=1e-5), key
    assert shared.weight.grad is not None
    assert torch.allclose(shared.weight.grad, twice.weight.grad, atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(shared.eval()(values), twice.eval()(values), atol=1e-5)


def test_which_norms_it_replaces() -> None:
    class Other(nn.BatchNorm2d):
        """As timm's, which have an activation in them."""

        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(make()), Other(3), Other(3).eval())
    weight = network[1][0].weight
    names = list(network.state_dict())
    assert share_norms(network) == ["2"]
    assert type(network[1][0]) is SharedNorm
    assert network[1][0].weight is weight
    assert list(network.state_dict()) == names
