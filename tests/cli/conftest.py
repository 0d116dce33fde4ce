"""A tiny untrained model whose scores are raised, so that it finds something on any picture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import condinst.cli.predict.command as command
from condinst.cli.main import app
from condinst.config import Config
from condinst.model.condinst import CondInst
from condinst.weights.folder import save_model

Run = Callable[..., Result]

TINY = {
    "about": {"licence": "CC0", "box AP": "0.10", "mask AP": "0.20"},
    "model": {
        "classes": ["nucleus"],
        "backbone": {"name": "mobilenetv2_050"},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 64},
        "mask_branch": {"convs": 1, "channels": 16},
    },
    "input": {"shorter": 64, "longer": 96},
    "detect": {"max_detections": 20},
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = Config.from_dict(TINY)
    model = CondInst(config.model)
    with torch.no_grad():
        model.head.class_logits.bias.fill_(2.0)
        model.head.distances.bias.fill_(1.5)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(model, config, folder)
    return folder


@pytest.fixture
def run() -> Run:
    def invoke(*words: object, **options: Any) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], **options)

    return invoke


@pytest.fixture(scope="session", autouse=True)
def loaded_once() -> Iterator[None]:
    """All calls of `predict` share their predictors: loading one takes longer than most of what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "make_predictor", functools.cache(command.make_predictor))
        yield
