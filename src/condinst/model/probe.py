"""What a changed network is held against: its answer to a small random picture, and which layers follow which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 64  # of the picture, pixels
AGREEMENT = 1e-3  # of the largest magnitude: far above rounding, far below what a wrong pair does


def run_probe(model: nn.Module) -> object:
    """The model's answer."""
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False), torch.no_grad():  # whoever calls: tensors made in inference mode have no versions
        answer: object = model(picture.to(next(model.parameters()).device))
    return answer


def find_pairs(
    model: nn.Module, first: type[nn.Module], second: tuple[type[nn.Module], ...]
) -> tuple[list[tuple[str, str]], object]:
    """Names (a, b) of modules of these types where b read what a had written each time that either was called.

    And the model's answer, as of `run_probe`, from which they were read off.
    """
    # the tensor is kept, so that no other gets its number; its version tells whether it was changed in place since
    writers: dict[int, tuple[str, Tensor | None, int]] = {}
    calls: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()

    def wrote(name: str) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Tensor) -> None:
            calls[name] += 1
            writers[id(output)] = name, output, output._version

        return note

    def read(name: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            writer, __, version = writers.get(id(inputs[0]), ("", None, -1))
            if inputs[0]._version == version:
                pairs[writer, name] += 1

        return note

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, first):
            hooks.append(module.register_forward_hook(wrote(name)))
        elif isinstance(module, second):
            hooks.append(module.register_forward_pre_hook(read(name)))
    try:
        answer = run_probe(model)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair, times in pairs.items() if all(calls[name] == times for name in pair)], answer


def agree(answer: object, expected: object) -> bool:
    """Whether two answers of a network are the same to rounding."""
    if answer is None or expected is None:
        return answer is expected
    if isinstance(answer, Tensor) and isinstance(expected, Tensor):
        largest = expected.abs().max() if expected.numel() else expected.new_zeros(())
        return bool(((answer - expected).abs() <= AGREEMENT * largest).all())
    assert isinstance(answer, tuple) and isinstance(expected, tuple)
    return all(agree(*both) for both in zip(answer, expected, strict=True))
