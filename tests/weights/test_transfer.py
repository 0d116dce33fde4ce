"""A trained model as the start of another: rows of classes go by name, all else as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.methods.choose import build_network
from condinst.model.condinst import CondInst
from condinst.recipes import load_recipe
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


RTMDET = load_recipe("rtmdet-ins-tiny").model


def rtmdet(*classes: str) -> ModelConfig:
    return RTMDET.model_copy(update={"classes": classes})


def test_rows_of_rtmdet_ins_go_by_name() -> None:
    """On each level. A new class keeps the first values of the new model."""
    old_settings, new_settings = rtmdet("cat", "dog", "cow"), rtmdet("dog", "häher", "cat")
    torch.manual_seed(0)
    old = {name: torch.randn(tensor.shape) for name, tensor in build_network(old_settings).state_dict().items()}
    torch.manual_seed(1)
    model = build_network(new_settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    note = fill_from(model, old, old_settings.classes)
    assert note == "all weights are kept except for the new classes häher; kept classes: dog, cat"
    after = model.state_dict()
    rows = [name for name in after if name.startswith("head.class_logits.")]
    assert len(rows) == 6
    for name in rows:
        assert torch.equal(after[name][[0, 2]], old[name][[1, 0]])
        assert torch.equal(after[name][1], before[name][1])
    others = [name for name in after if name not in rows]
    assert [name for name in others if not torch.equal(after[name], old[name].to(after[name].dtype))] == []


def test_another_method_is_refused() -> None:
    condinst, other = settings("cat", semantic=False), rtmdet("cat")
    for mine, theirs, words in (
        (other, condinst, "the tensors are those of a CondInst, the settings are for an RTMDet-Ins"),
        (condinst, other, "the tensors are those of an RTMDet-Ins, the settings are for a CondInst"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            fill_from(build_network(mine), build_network(theirs).state_dict(), ("cat",))
        assert "\n" not in str(caught.value)
