"""The frozen batch norm against torch's batch norm in evaluation mode."""

import pytest
import torch
from torch import nn

from condinst.model.backbones.frozen_norm import FrozenNorm


def make_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, eps=1e-3).eval()
    norm.running_mean, norm.running_var = torch.randn(5), torch.rand(5) + 0.1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_batch_norm_forward_and_backward(memory_format: torch.memory_format) -> None:
    norm = make_norm()
    frozen = FrozenNorm.of(norm)
    assert frozen.state_dict().keys() == norm.state_dict().keys()
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=memory_format)
    answers, gradients = [], []
    for module in (norm, frozen):
        source = x.clone().requires_grad_()
        answer = module(source)
        answer.square().sum().backward()
        answers.append(answer)
        gradients.append(source.grad)
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
    assert answers[1].is_contiguous(memory_format=memory_format)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen.parameters())


def test_keeps_nothing_of_the_maps_size_for_the_backward_pass() -> None:
    kept: list[int] = []
    frozen = FrozenNorm.of(make_norm())
    x = torch.randn(2, 5, 6, 7, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        frozen(x)
    assert max(kept, default=0) <= 5


def test_half_precision_stays_half() -> None:
    norm = make_norm()
    x = torch.randn(2, 5, 6, 7)
    half = FrozenNorm.of(norm)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), norm(x), rtol=0.03, atol=0.03)


def test_statistics_stay_in_training_mode() -> None:
    frozen = FrozenNorm.of(make_norm()).train()
    x = torch.randn(2, 5, 6, 7) + 3
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    torch.testing.assert_close(frozen(x), frozen.eval()(x))
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())
