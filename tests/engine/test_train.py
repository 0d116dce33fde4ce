"""Training on real pictures: resuming, one image learnt by heart, two processes, what is refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn

from condinst.config import Config
from condinst.data.coco import CocoData, read_coco
from condinst.engine import train as engine
from condinst.engine.checkpoint import list_checkpoints
from condinst.engine.evaluate import evaluate
from condinst.engine.train import train
from condinst.errors import CondinstError, DataError, ModelError, UsageError
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.weights.folder import load_model

DATA = Path(__file__).parent.parent / "data"
NUCLEI = DATA / "nuclei"
LOSSES = ("classification", "box", "quality", "mask", "semantic", "total")

TINY: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_035", "norm": "affine", "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 8},
        "semantic": True,
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64, 96], "longer": 128, "jitter": [0.8, 1.25], "crop": 80, "turns": True, "hue": 0.1},
    "targets": {"max_mask_positives": 20},
    "train": {
        "init": "none",
        "iterations": 4,
        "batch_size": 2,
        "lr": 0.001,
        "workers": 0,
        "warmup_iterations": 2,
        "log_every": 1,
        "checkpoint_every": 2,
    },
}
PLAIN = ["augment.jitter=[1, 1]", "augment.crop=0", "augment.turns=false", "augment.hue=0", "augment.flip_horizontal=0"]


class StoppedError(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps one precision for a whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data() -> CocoData:
    return read_coco(NUCLEI / "train.json", NUCLEI / "images")


def make_config(*overrides: str) -> Config:
    return Config.from_dict(TINY).with_overrides(list(overrides))


def rows(folder: Path) -> list[dict[str, str]]:
    """The log without what a clock or the machine says."""
    with (folder / "log.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("images_per_second", "memory_mb")}
            for row in csv.DictReader(file)
        ]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("overrides", [(), ("train.optimizer=adamw", "train.ema_decay=0.9", "train.workers=1")])
def test_resumed_equals_uninterrupted(tmp_path: Path, data: CocoData, overrides: tuple[str, ...]) -> None:
    """Bit for bit, augmentation and the choice of positives included."""

    def interrupt(_: nn.Module, iteration: int) -> None:
        if iteration == 3:
            raise StoppedError

    train(make_config(*overrides), data, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(make_config("train.validate_every=1", *overrides), data, tmp_path / "parts", after=interrupt)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    assert [path.name for path in list_checkpoints(tmp_path / "parts")] == ["checkpoint-00000002"]
    assert len(rows(tmp_path / "parts")) == 3
    train(make_config(*overrides), data, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert list(whole) == list(parts)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert len(rows(tmp_path / "whole")) == 4


def test_what_a_run_leaves(tmp_path: Path, data: CocoData) -> None:
    seen: list[tuple[type, int]] = []
    config = train(
        make_config("train.half=true", "train.validate_every=2", "model.classes=[other, names]", "train.iterations=3"),
        data,
        tmp_path / "deep" / "run",
        after=lambda module, iteration: seen.append((type(module), iteration)),
    )
    assert seen == [(CondInst, 2)]
    assert config.model.classes == data.classes == ("nucleus",)
    model, stored = load_model(tmp_path / "deep" / "run")
    assert stored == config
    assert model.config == config.model
    dtypes = {tensor.dtype for tensor in weights(tmp_path / "deep" / "run").values() if tensor.ndim > 1}
    assert dtypes == {torch.float16}
    assert list(rows(tmp_path / "deep" / "run")[0]) == ["iteration", *LOSSES, "grad_norm", "lr"]


def test_pictures_without_instances(tmp_path: Path, data: CocoData) -> None:
    """Four pictures of which three are empty: some batches hold no instance at all."""
    emptied = [replace(sample, instances=()) for sample in data.samples[:-1]]
    train(make_config(), replace(data, samples=(*emptied, data.samples[-1])), tmp_path)
    logged = rows(tmp_path)
    assert len(logged) == 4
    assert any(float(row["mask"]) == 0 for row in logged)
    with pytest.raises(DataError, match="no annotated instance"):
        train(make_config(), replace(data, samples=tuple(emptied)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("overrides", [("train.precision=bf16",), ("train.channels_last=true",)])
def test_other_arithmetic_tells_nearly_the_same(tmp_path: Path, data: CocoData, overrides: tuple[str, ...]) -> None:
    train(make_config(), data, tmp_path / "plain")
    AcceleratorState._reset_state(reset_partial_state=True)
    train(make_config(*overrides), data, tmp_path / "other")
    one, other = rows(tmp_path / "plain")[0], rows(tmp_path / "other")[0]
    for name in LOSSES:
        assert float(one[name]) == pytest.approx(float(other[name]), rel=0.03)
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(tmp_path / "other").values())


def test_refusals(tmp_path: Path, data: CocoData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no such backbone weights"):
        train(make_config(f"train.init={tmp_path / 'absent.npz'}"), data, tmp_path)
    with pytest.raises(ModelError, match="timm has no such model"):
        train(make_config("model.backbone.name=resnet49"), data, tmp_path)
    with pytest.raises(UsageError, match=r"train\.precision=bf16: .*mixed_precision"):
        train(make_config("train.precision=bf16"), data, tmp_path)  # after a run in float32
    monkeypatch.setattr(engine, "Accelerator", lambda **_: SimpleNamespace(num_processes=3))
    with pytest.raises(UsageError, match=r"train\.batch_size=2 cannot be shared by 3 processes"):
        train(make_config(), data, tmp_path)


def test_a_run_that_explodes(tmp_path: Path, data: CocoData) -> None:
    """One clear line, and no model that looks finished."""
    with pytest.raises(CondinstError, match=r"iteration \d: .*not finite; lower train.lr") as caught:
        train(make_config("train.lr=1e30", "train.warmup_iterations=0", "train.checkpoint_every=100"), data, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


def part_of(source: Path, target: Path, names: list[str]) -> Path:
    """The annotations of some pictures of a data set, with the classes that occur in them."""
    document = json.loads(source.read_bytes())
    document["images"] = [image for image in document["images"] if image["file_name"] in names]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [record for record in document["annotations"] if record["image_id"] in ids]
    classes = {record["category_id"] for record in document["annotations"]}
    document["categories"] = [category for category in document["categories"] if category["id"] in classes]
    target.write_text(json.dumps(document))
    return target


LEARNER: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_050", "norm": "batch", "frozen_stages": 0},
        "fpn_channels": 64,
        "head": {"convs": 2, "channels": 64},
        "mask_branch": {"convs": 2, "channels": 32},
        "pixel_mean": [127.5] * 3,
        "pixel_std": [60] * 3,
    },
    "input": {"shorter": 384, "longer": 640},
    "augment": {"shorter": [384], "longer": 640, "flip_horizontal": 0},
    "train": {
        "init": "none",
        "iterations": 160,
        "batch_size": 1,
        "optimizer": "adamw",
        "lr": 0.002,
        "weight_decay": 0,
        "warmup_iterations": 20,
        "schedule": "cosine",
        "clip_norm": 5,
        "workers": 0,
    },
}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_picture_is_learnt_by_heart(tmp_path: Path) -> None:
    """Fifteen touching nuclei, from random weights: masks within a fraction of a pixel, by the data set's own scorer.

    Mean AP over IoU 0.5 to 0.95, so a shift of half a pixel anywhere between file and mask would show.
    """
    annotations = part_of(NUCLEI / "val.json", tmp_path / "one.json", ["45f059cf21d85ecf.png"])
    train(Config.from_dict(LEARNER), read_coco(annotations, NUCLEI / "images"), tmp_path / "run")
    scores = evaluate(annotations, NUCLEI / "images", Predictor(tmp_path / "run", "cpu"))
    assert scores.truths == 15
    assert scores.segm.AP > 0.9
    assert scores.bbox.AP > 0.9


SEVERAL = """
import json, sys
from condinst.cli.main import app
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
"""


def in_processes(count: int, runs: list[list[str]], folder: Path) -> None:
    """`condinst …` for each of `runs`, on `count` CPU processes."""
    script = folder / "several.py"
    script.write_text(SEVERAL)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []
    environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *launch, str(script), json.dumps(runs)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """The same losses and weights from the same global batch, one picture each.

    Two things cannot be equal in general, by design: batch norm in the mask branch sees its own process's pictures, and
    the mask term is the mean over its own process's positives, as published. So the first run has two different
    pictures and leaves the mask out of the sum: class, box and quality must agree although the positives are shared
    unevenly. The second has the same picture twice, where both means are the same: every term must agree.
    """
    same_size = ["06350c7cc618be44.png", "16c3d5935ba94b72.png"]  # 256×256: one process must not pad for the other
    names = {"different": same_size, "equal": same_size[:1]}
    extra = {
        "different": ["loss.mask_weight=0", "loss.semantic_weight=0"],
        "equal": ["targets.max_mask_positives=5000"],
    }
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(make_config(*PLAIN, "augment.shorter=[96]").model_dump(mode="json")))
    runs: dict[int, list[list[str]]] = {1: [], 2: []}
    for case, files in names.items():
        annotations = part_of(NUCLEI / "train.json", tmp_path / f"{case}.json", files)
        for count, words in runs.items():
            out = tmp_path / f"{case}{count}"
            given = ["--data", annotations, "--images", NUCLEI / "images", "--recipe", recipe, "--out", out]
            words.append(["train", *map(str, given), "train.lr=0.01", *extra[case]])
    for count, words in runs.items():
        in_processes(count, words, tmp_path)
    compared = {"different": ("classification", "box", "quality", "total"), "equal": LOSSES}
    for case, terms in compared.items():
        one, two = rows(tmp_path / f"{case}1"), rows(tmp_path / f"{case}2")
        assert len(one) == len(two) == 4
        for mine, theirs in zip(one, two, strict=True):
            for term in terms:
                assert float(mine[term]) == pytest.approx(float(theirs[term]), rel=1e-4), (
                    case,
                    mine["iteration"],
                    term,
                )
        assert one[0]["total"] != one[-1]["total"]
        alone, together = weights(tmp_path / f"{case}1"), weights(tmp_path / f"{case}2")
        for name, tensor in alone.items():
            if "running" not in name:  # unbiased variances of one picture and of two differ
                assert torch.allclose(tensor.double(), together[name].double(), rtol=1e-3, atol=1e-5), (case, name)
