"""`condinst train` with a tiny SOLOv2 on a few real pictures, what comes out of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from condinst.cli.main import app
from condinst.config import Config
from condinst.data.open import open_data
from condinst.engine.planning.trial import measure_need
from condinst.weights.folder import load_model

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
Run = Callable[..., Result]
RECIPE: dict[str, Any] = {
    "model": {
        "method": "solov2",
        "backbone": {"name": "mobilenetv2_050", "frozen_stages": 0},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 32},
        "mask_branch": {"channels": 32, "features": 16},
        "size_ranges": [[1, 96], [48, 192], [96, 384], [192, 768], [384, 2048]],
        "coordinate_scales": [],
    },
    "input": {"shorter": 64, "longer": 96},
    "detect": {"score_threshold": 0.005, "decayed_threshold": 0.001, "score_root": False, "nms": "matrix"},
    "loss": {"mask_weight": 3},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "iterations": 2, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}
METHODS = {
    "solo": {"model": {"mask_branch": {}, "method": "solo"}},
    "decoupled-solo": {"model": {"mask_branch": {}, "method": "decoupled-solo", "solo": {"one_mask_tower": True}}},
    "solov2": {},
}


def settings(method: str) -> dict[str, Any]:
    other = METHODS[method].get("model", {})
    return RECIPE | {"model": RECIPE["model"] | other}


@pytest.fixture
def run() -> Run:
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("method", METHODS)
def test_train_measure_resume_predict(run: Run, method: str, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(settings(method)))
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out)
    outcome = run(*words, "train.validate_every=2", "train.accumulate=2")
    assert outcome.exit_code == 0, outcome.output
    longer = run(*words, "--resume", "train.iterations=3", "train.accumulate=2")
    assert longer.exit_code == 0, longer.output
    rows = (out / "log.csv").read_text().splitlines()
    assert {"classification", "mask"} <= set(rows[0].split(","))
    model, config = load_model(out)
    assert (config.model.method, model.training) == (method, False)
    measured = run("val", "--model", out, "--data", NUCLEI)
    assert measured.exit_code == 0, measured.output
    found = run("predict", NUCLEI / "images", "--model", out, "--out", tmp_path / "results", "--conf", "0.002")
    assert found.exit_code == 0, found.output
    exported = run("export", "--model", out, "--out", tmp_path / "program")
    assert exported.exit_code == 2
    assert f"model.method={method} cannot be exported" in exported.stderr
    described = json.loads(run("info", out, "--json").stdout)
    assert described["strides"] == [8, 8, 16, 32, 32]


def test_the_memory_of_a_step_is_measured() -> None:
    config, data = Config.from_dict(settings("solov2")), open_data(NUCLEI, "train")
    need = measure_need(config, data, data, torch.device("cpu"), 2**33)
    assert min(need.more, need.measuring) > 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"head": {"distance_prior": 1}}, "method solov2 does not use head.distance_prior; leave it at 0"),
        ({"mask_head": {"depth": 1}}, "method solov2 does not use mask_head"),
        ({"solo": {"one_mask_tower": True}}, "method solov2 does not use solo.one_mask_tower; leave it at false"),
        ({"pyramid": "pafpn"}, "method solov2 needs pyramid fpn, got pafpn"),
        ({"coordinate_scales": [1.0]}, "method solov2 needs 5 size_ranges and 0 coordinate_scales, got 5 and 1"),
    ],
)
def test_settings_that_do_not_fit(override: dict[str, Any], words: str) -> None:
    from condinst.errors import UsageError

    with pytest.raises(UsageError, match=words) as caught:
        Config.from_dict(RECIPE | {"model": RECIPE["model"] | override})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"detect": {"score_root": False}}, "which needs detect.nms=matrix"),
        ({"targets": {"supervision": "boxes"}}, "which needs targets.supervision=masks"),
        ({"loss": {"mask": "bce"}}, "which needs loss.mask=dice"),
        ({"targets": {"center_radius": 2.0}}, "which does not use targets.center_radius; leave it at 1.5"),
    ],
)
def test_other_sections_that_do_not_fit(override: dict[str, Any], words: str) -> None:
    from condinst.errors import UsageError

    with pytest.raises(UsageError, match=words):
        Config.from_dict(RECIPE | override)


def test_weights_of_another_method_are_refused(run: Run, tmp_path: Path) -> None:
    """A folder whose settings say SOLO and whose tensors are those of a SOLOv2."""
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(settings("solov2")))
    outcome = run("train", "--data", NUCLEI, "--recipe", recipe, "--out", out, "train.iterations=1")
    assert outcome.exit_code == 0, outcome.output
    config = Config.from_yaml(out / "config.yaml").model_dump(mode="json")
    config["model"] |= {"method": "solo", "mask_branch": {}}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    refused = run("info", out)
    assert refused.exit_code != 0
    (line,) = refused.stderr.strip().splitlines()
    assert "the tensors are those of a SOLOv2, the settings are for a SOLO" in line
