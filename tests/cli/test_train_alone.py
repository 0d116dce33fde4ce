"""`condinst train` as a stranger types it: no recipe, a model to begin with, and what may come in between."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from typer.testing import Result

from condinst.config import Config
from condinst.engine.stop import list_checkpoints
from condinst.recipes import load_recipe
from condinst.weights.folder import load_model

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
Run = Callable[..., Result]
# what would take long otherwise; all else is for the data to decide
QUICK = (
    "train.iterations=2",
    "train.workers=0",
    "input={shorter: 64, longer: 96}",
    "augment={shorter: [64], longer: 96}",
)
RECIPE: dict[str, Any] = {"train": {"iterations": 1, "batch_size": 2, "workers": 0, "warmup_iterations": 0}}


def error_of(outcome: Result, code: int) -> str:
    assert outcome.exit_code == code, outcome.output
    assert "Traceback" not in outcome.output
    return outcome.stderr.strip().splitlines()[-1]


def data_set(folder: Path, names: list[str], pictures: int | None = None, annotated: bool = True) -> Path:
    """Nuclei under other names of their class: every other one the first, the second …, in a path with blanks."""
    document = json.loads((NUCLEI / "train.json").read_bytes())
    document["categories"] = [{"id": 7 * number, "name": name} for number, name in enumerate(names)]
    document["images"] = document["images"][:pictures]
    kept = {image["id"] for image in document["images"]} if annotated else set()
    document["annotations"] = [record for record in document["annotations"] if record["image_id"] in kept]
    for number, record in enumerate(document["annotations"]):
        record["category_id"] = 7 * (number % len(names))
    target = folder / "meine Däten 数据"
    target.mkdir()
    shutil.copytree(NUCLEI / "images", target / "images")
    for split in ("train", "val"):
        (target / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")
    return target


@pytest.mark.slow
def test_one_command(run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data alone and a model to begin with, in paths with blanks, classes in any script."""
    data = data_set(tmp_path, ["nucleus", "ядро", "核 😀"])
    monkeypatch.chdir(tmp_path)
    outcome = run("train", "--data", data, "--from", model_folder, *QUICK)
    assert outcome.exit_code == 0, outcome.output
    told = outcome.stderr.splitlines()
    starts = ("data", "input", "levels", "detections", "step", "memory", "learning rate", "length", "precision")
    assert [line.split(":")[0].removeprefix("pyramid ").split(" of")[0] for line in told[:9]] == list(starts)
    assert any(line.endswith("the new classes ядро, 核 😀; kept classes: nucleus") for line in told)
    out = tmp_path / "runs" / data.name
    _, config = load_model(out)
    assert config.model.classes == ("nucleus", "ядро", "核 😀")
    begun = load_model(model_folder)[1]
    assert config.model == begun.model.model_copy(update={"classes": config.model.classes})
    assert (config.train.init, config.about["started from"]) == ("none", str(model_folder / "model.safetensors"))
    assert config.about["licence"] == "CC0"  # of the model that it comes from
    assert (config.train.validate_every, config.train.iterations, config.input.shorter) == (1, 2, 64)
    written = {path.name for path in out.iterdir()}
    pictures = {"labels.svg", "batch-1.jpg", "batch-2.jpg", "predictions.jpg", "report.html"}
    assert {"log.csv", "scores.csv", "scores.jsonl", "environment.json", "last", "config.yaml"} | pictures <= written
    with Image.open(out / "batch-1.jpg") as picture:
        assert min(picture.size) >= 64
    (record,) = json.loads((out / "environment.json").read_text())
    assert record["data"]["pictures"] == 4
    assert record["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]

    # a second time, it goes on with the settings that the data decided then
    AcceleratorState._reset_state(reset_partial_state=True)
    longer = run("train", "--data", data, "--out", out, "--resume", "train.iterations=3")
    assert longer.exit_code == 0, longer.output
    resumed = load_model(out / "last")[1]
    assert resumed == config.with_overrides(["train.iterations=3"])
    assert "learning rate" not in longer.stderr
    assert [record["iteration"] for record in json.loads((out / "environment.json").read_text())] == [0, 2]
    assert len((out / "log.csv").read_text().splitlines()) == 4
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
def test_changed_data_is_told(run: Run, model_folder: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path, ["nucleus"])
    words = ("train", "--data", data, "--from", model_folder, "--out", tmp_path / "run", *QUICK)
    assert run(*words).exit_code == 0
    document = json.loads((data / "train.json").read_text())
    document["annotations"].pop()
    (data / "train.json").write_text(json.dumps(document))
    outcome = run(*words, "--resume", "train.iterations=3")
    assert outcome.exit_code == 0, outcome.output
    assert "note: the training data has changed since the last start of this run" in outcome.stderr.splitlines()


def test_a_recipe_and_a_model(run: Run, model_folder: Path, tmp_path: Path) -> None:
    """Training from the one, tensors from the other; where they contradict each other, one line."""
    recipe = tmp_path / "mine.yaml"
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--from", model_folder, "--out", tmp_path / "run")
    recipe.write_text(yaml.safe_dump(RECIPE | {"model": {"fpn_channels": 48, "head": {"prior": 0.2}}}))
    line = error_of(run(*words), 2)
    assert line.startswith(f"error: model.fpn_channels is 48 in recipe {recipe} and 32 in the model of --from")
    recipe.write_text(yaml.safe_dump(RECIPE | {"model": {"fpn_channels": 32, "head": {"prior": 0.2}}}))
    size = ("augment={shorter: [64], longer: 96}", "input={shorter: 64, longer: 96}")
    assert "semantic_head" in error_of(run(*words, *size, "model.semantic=true"), 4)
    outcome = run(*words, *size)
    assert outcome.exit_code == 0, outcome.output
    assert "learning rate" not in outcome.stderr  # a recipe decides
    assert load_model(tmp_path / "run")[1].train.lr == Config().train.lr
    assert "no such shipped or published model" in error_of(run("train", "--data", NUCLEI, "--from", "nukleii"), 4)


@pytest.mark.slow
def test_without_a_network(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default begins with ImageNet's weights; where they cannot be had, a line says what needs none."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = run("train", "--data", NUCLEI, "--out", tmp_path / "run", *QUICK)
    line = error_of(outcome, 4)
    assert line.startswith("error: the ImageNet weights of mobilenetv2_100 cannot be fetched")
    assert line.endswith("without a network, start from a shipped model: --from nuclei")
    assert run("train", "--data", NUCLEI, "--out", tmp_path / "run", *QUICK, "train.init=none").exit_code == 0


@pytest.mark.slow
def test_little_data(run: Run, model_folder: Path, tmp_path: Path) -> None:
    """No picture and no annotation are one line; one picture trains, in batches larger than the data set."""
    for name, pictures, annotated, words in (
        ("none", 0, True, "has no pictures"),
        ("bare", None, False, "has no annotated instance"),
        ("one", 1, True, ""),
    ):
        (tmp_path / name).mkdir()
        data = data_set(tmp_path / name, ["nucleus"], pictures, annotated)
        outcome = run("train", "--data", data, "--from", model_folder, "--out", tmp_path / name / "run", *QUICK)
        if words:
            assert words in error_of(outcome, 3)
            assert not (tmp_path / name / "run" / "model.safetensors").exists()
        else:
            assert outcome.exit_code == 0, outcome.output
            assert load_model(tmp_path / name / "run")[1].train.batch_size == 8


def start(folder: Path, *settings: str, size: int | None = None) -> subprocess.Popen[str]:
    """A process of its own that trains longer than anybody waits; size: bytes that a file may have."""
    recipe = folder / "tiny.yaml"
    model = {"backbone": {"name": "mobilenetv2_035", "frozen_stages": 0}, "fpn_channels": 16}
    values = {
        "model": model | {"head": {"convs": 1, "channels": 16}, "mask_branch": {"convs": 1, "channels": 8}},
        "input": {"shorter": 64, "longer": 96},
        "augment": {"shorter": [64], "longer": 96},
        "train": {"init": "none", "iterations": 10_000, "batch_size": 2, "workers": 1, "checkpoint_every": 3},
    }
    recipe.write_text(yaml.safe_dump(values))

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell in the background lets its children ignore it
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    words = ("train", "--data", NUCLEI / "train.json", "--recipe", recipe, "--out", folder / "run", *settings)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "condinst", *map(str, words)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="interrupts as a terminal does")
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of the terminal; one line, and the last checkpoint is whole."""
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while not list_checkpoints(tmp_path / "run") and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    (newest,) = list_checkpoints(tmp_path / "run")
    number = int(newest.name.rpartition("-")[2])
    lines = told.splitlines()
    assert lines[-1] == f"interrupted; --resume continues from the checkpoint of iteration {number}"
    assert "Traceback" not in told
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]

    # and a disk on which nothing large can be written: the limit meets the writers themselves
    process = start(tmp_path, "--resume", "train.workers=0", size=100_000)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "Traceback" not in told
    line = told.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}/run/checkpoint-{number + 3:08d}: cannot be written (")
    assert line.endswith("free some space and --resume")
    assert list_checkpoints(tmp_path / "run") == [newest]
    process = start(tmp_path, "--resume", f"train.iterations={number + 2}")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert load_model(tmp_path / "run")[1].train.iterations == number + 2


def test_small_is_the_default() -> None:
    recipe = load_recipe("small")
    assert not recipe.augment.turns
    assert recipe.augment.flip_vertical == 0
    assert (recipe.train.init, recipe.model.pixel_mean) == ("imagenet", Config().model.pixel_mean)
