"""A trained model as the start of another: rows of classes go by name, all else as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.model.condinst import CondInst
from condinst.settings.model import ModelConfig
from condinst.weights.transfer import fill_from

SETTINGS = {
    "backbone": {"name": "mobilenetv2_035"},
    "fpn_channels": 16,
    "head": {"convs": 1, "channels": 16},
    "mask_branch": {"convs": 1, "channels": 8},
    "semantic": True,
}


def settings(*classes: str, **changes: object) -> ModelConfig:
    return ModelConfig.model_validate(SETTINGS | {"classes": classes} | changes)


def make(seed: int, config: ModelConfig) -> CondInst:
    torch.manual_seed(seed)
    return CondInst(config)


def state(model: CondInst) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


OLD = settings("cat", "dog", "cow")
ROWS = (
    "head.class_logits.weight",
    "head.class_logits.bias",
    "semantic_head.logits.weight",
    "semantic_head.logits.bias",
)


def test_rows_go_by_name() -> None:
    """In another order, some missing, some new; half precision becomes single."""
    old, model = state(make(0, OLD)), make(1, settings("dog", "häher", "cat"))
    before = state(model)
    half = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in old.items()}
    note = fill_from(model, half, OLD.classes)
    assert note == "all weights are kept except for the new classes häher; kept classes: dog, cat"
    after = model.state_dict()
    for name in ROWS:
        # biases all begin alike
        assert torch.equal(after[name][[0, 2]], half[name][[1, 0]].float())
        assert torch.equal(after[name][1], before[name][1])
    others = [name for name in after if name not in ROWS]
    assert len(others) > 100
    assert [name for name in others if not torch.equal(after[name], half[name].to(after[name].dtype))] == []
    assert {tensor.dtype for tensor in after.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "dog", "cow"), "all weights are kept, including the classes cat, dog, cow"),
        (("fish",), "all weights are kept except for the new classes fish"),
        (
            tuple("abcdefghij"),
            "all weights are kept except for the new classes a, b, c, d, e, f, g, h and 2 more",
        ),
    ],
)
def test_what_is_said(classes: tuple[str, ...], words: str) -> None:
    assert fill_from(make(1, settings(*classes)), state(make(0, OLD)), OLD.classes) == words


def test_the_same_classes_are_the_same_model() -> None:
    model = make(1, OLD)
    old = state(make(0, OLD))
    fill_from(model, old, OLD.classes)
    assert all(torch.equal(tensor, old[name]) for name, tensor in model.state_dict().items())


def test_another_network_is_refused() -> None:
    old = state(make(0, settings("cat", semantic=False)))
    with pytest.raises(ModelError, match=r"do not fit these settings: .*semantic_head.*; leave out") as caught:
        fill_from(make(1, settings("cat")), old, ("cat",))
    assert "\n" not in str(caught.value)
    assert Config().model != OLD
