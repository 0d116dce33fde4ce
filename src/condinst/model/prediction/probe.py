"""Run a network on a small random picture: to compare its outputs, and to see which layers follow each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 64  # side of the picture in pixels
# Largest difference of two equal outputs, as a part of the largest value. Rounding is far smaller, the effect of a
# wrong pair of layers far larger.
AGREEMENT = 1e-3


def run_probe(model: nn.Module) -> object:
    """The output of the model for the picture. The picture is the same in every call."""
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode have no version counter
        answer: object = model(picture.to(next(model.parameters()).device))
    return answer


def find_pairs(
    model: nn.Module, first: type[nn.Module], second: tuple[type[nn.Module], ...]
) -> tuple[list[tuple[str, str]], object]:
    """Pairs of names (a, b) of modules of the types `first` and `second`, where b always reads the output of a.

    "Always" means: in each call of a and in each call of b. The function also returns the output of the model for the
    picture, as `run_probe` does.
    """
    # keeping the tensor keeps its id unique; its version changes when an operation changes it in place
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
    """Return whether two outputs of a network are equal up to rounding errors."""
    if answer is None or expected is None:
        return answer is expected
    if isinstance(answer, Tensor) and isinstance(expected, Tensor):
        largest = expected.abs().max() if expected.numel() else expected.new_zeros(())
        return bool(((answer - expected).abs() <= AGREEMENT * largest).all())
    assert isinstance(answer, tuple) and isinstance(expected, tuple)
    return all(agree(*both) for both in zip(answer, expected, strict=True))
