"""Training on real pictures: resuming, what a run leaves, what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from condinst.config import Config
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine import processes
from condinst.engine import train as engine
from condinst.engine.losses import Part
from condinst.engine.stop import list_checkpoints
from condinst.engine.train import forget_masks, train
from condinst.errors import CondinstError, DataError, ModelError, UsageError
from condinst.weights.folder import load_model

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

DATA = Path(__file__).parent.parent / "data"
NUCLEI = DATA / "nuclei"
LOSSES = ("classification", "box", "quality", "mask", "projection", "pairwise", "semantic", "total")

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


class StoppedError(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.fixture(scope="module")
def data() -> AnnotatedData:
    return read_coco(NUCLEI / "train.json", NUCLEI / "images")


def make_config(*overrides: str) -> Config:
    return Config.from_dict(TINY).with_overrides(list(overrides))


def stop_at(iteration: int, patch: pytest.MonkeyPatch) -> None:
    """The run is stopped in the middle of the step after `iteration` steps."""
    computed = engine.step_losses

    def losses(model: Any, part: Any, generator: Any, done: int, **rest: Any) -> Any:
        if done == iteration:
            raise StoppedError
        return computed(model, part, generator, done, **rest)

    patch.setattr(engine, "step_losses", losses)


def rows(folder: Path) -> list[dict[str, str]]:
    """The log without what a clock or the machine says."""
    with (folder / "log.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("images_per_second", "memory_mb", "readers_mb")}
            for row in csv.DictReader(file)
        ]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("overrides", [(), ("train.optimizer=adamw", "train.ema_decay=0.9", "train.workers=1")])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, data: AnnotatedData, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, augmentation and the choice of positives included."""

    train(make_config(*overrides), data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with pytest.raises(StoppedError):
            train(make_config(*overrides), data, tmp_path / "parts")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    assert [path.name for path in list_checkpoints(tmp_path / "parts")] == ["checkpoint-00000002"]
    assert len(rows(tmp_path / "parts")) == 3
    train(make_config(*overrides), data, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert list(whole) == list(parts)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert len(rows(tmp_path / "whole")) == 4


def test_what_a_run_leaves(tmp_path: Path, data: AnnotatedData) -> None:
    config = train(
        make_config("train.half=true", "model.classes=[other, names]", "train.iterations=3"),
        data,
        tmp_path / "deep" / "run",
    )
    assert config.model.classes == data.classes == ("nucleus",)
    model, stored = load_model(tmp_path / "deep" / "run")
    assert stored == config
    assert model.config == config.model
    dtypes = {tensor.dtype for tensor in weights(tmp_path / "deep" / "run").values() if tensor.ndim > 1}
    assert dtypes == {torch.float16}
    assert list(rows(tmp_path / "deep" / "run")[0]) == ["iteration", *LOSSES, "grad_norm", "lr"]


def test_pictures_without_instances(tmp_path: Path, data: AnnotatedData) -> None:
    """Four pictures of which three are empty: some batches hold no instance at all."""
    emptied = [replace(sample, instances=()) for sample in data.samples[:-1]]
    train(make_config(), replace(data, samples=(*emptied, data.samples[-1])), tmp_path)
    logged = rows(tmp_path)
    assert len(logged) == 4
    assert any(float(row["mask"]) == 0 for row in logged)
    with pytest.raises(DataError, match="no annotated instance"):
        train(make_config(), replace(data, samples=tuple(emptied)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


BOXES = ["model.semantic=false", "box_supervision.warmup_iterations=8", "box_supervision.bottom_pixels=0"]


def without_some_masks(data: AnnotatedData) -> AnnotatedData:
    """Every other instance with its box alone."""
    samples = []
    for sample in data.samples:
        instances = list(sample.instances)
        instances[::2] = [replace(instance, shape=None) for instance in instances[::2]]
        samples.append(replace(sample, instances=tuple(instances)))
    return replace(data, samples=tuple(samples))


@pytest.mark.parametrize("supervision", ["boxes", "no masks", "mixed"])
def test_boxes_alone_and_some_masks(
    tmp_path: Path, data: AnnotatedData, supervision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each instance by the losses its annotation allows; the pairs' weight grows and survives an interruption."""

    given = {"boxes": data, "no masks": forget_masks(data), "mixed": without_some_masks(data)}[supervision]
    boxes = ["targets.supervision=boxes"] if supervision == "boxes" else []
    config = make_config(*BOXES, *boxes)
    train(config, given, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with pytest.raises(StoppedError):
            train(config, given, tmp_path / "parts")
    train(config, given, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    logged = rows(tmp_path / "whole")
    assert logged == rows(tmp_path / "parts")
    for row in logged:
        assert float(row["projection"]) > 0
        assert float(row["pairwise"]) > 0
        assert (float(row["mask"]) > 0) == (supervision == "mixed")


def test_forgotten_masks_are_boxes(tmp_path: Path, data: AnnotatedData) -> None:
    """`supervision: boxes` trains as if the file had no masks."""
    train(make_config(*BOXES, "targets.supervision=boxes"), data, tmp_path / "one")
    train(make_config(*BOXES), forget_masks(data), tmp_path / "other")
    assert rows(tmp_path / "one") == rows(tmp_path / "other")


def test_warming_up(tmp_path: Path, data: AnnotatedData) -> None:
    """The first iteration's term grows with one over the length of the warm-up; without one it is whole."""
    first = {}
    for length in (0, 1, 4):
        out = tmp_path / str(length)
        given = [f"box_supervision.warmup_iterations={length}", "train.iterations=1", "targets.supervision=boxes"]
        train(make_config(*BOXES, *given), data, out)
        first[length] = float(rows(out)[0]["pairwise"])
    assert first[0] == first[1] == pytest.approx(4 * first[4], rel=1e-4)


def test_the_semantic_head_needs_masks(tmp_path: Path, data: AnnotatedData) -> None:
    with pytest.raises(
        DataError, match=r"\.png: annotation \d+ has no mask; the semantic head .*semantic=false"
    ) as caught:
        train(make_config(), without_some_masks(data), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overrides", [("train.precision=bf16",), ("train.channels_last=true",)])
def test_other_arithmetic_tells_nearly_the_same(
    tmp_path: Path, data: AnnotatedData, overrides: tuple[str, ...]
) -> None:
    train(make_config(), data, tmp_path / "plain")
    train(make_config(*overrides), data, tmp_path / "other")  # in the same Python process
    one, other = rows(tmp_path / "plain")[0], rows(tmp_path / "other")[0]
    for name in LOSSES:
        assert float(one[name]) == pytest.approx(float(other[name]), rel=0.03)
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(tmp_path / "other").values())


def test_refusals(tmp_path: Path, data: AnnotatedData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no such file with backbone weights"):
        train(make_config(f"train.init={tmp_path / 'absent.npz'}"), data, tmp_path)
    with pytest.raises(ModelError, match="timm has no such model"):
        train(make_config("model.backbone.name=resnet49"), data, tmp_path)
    monkeypatch.setattr(processes, "Accelerator", Mock(side_effect=ValueError("no such hardware")))
    with pytest.raises(UsageError, match=r"train\.precision=bf16: no such hardware$"):
        train(make_config("train.precision=bf16"), data, tmp_path)
    monkeypatch.setattr(processes, "Accelerator", lambda **_: SimpleNamespace(num_processes=3))
    with pytest.raises(UsageError, match=r"train\.batch_size=2 cannot be divided by 3 processes"):
        train(make_config(), data, tmp_path)


def test_a_run_that_explodes(tmp_path: Path, data: AnnotatedData) -> None:
    """One clear line, and no model that looks finished."""
    with pytest.raises(CondinstError, match=r"iteration \d: .*not finite; .*; lower train.lr") as caught:
        train(make_config("train.lr=1e30", "train.warmup_iterations=0", "train.checkpoint_every=100"), data, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_step_that_is_not_finite_is_kept(
    tmp_path: Path, data: AnnotatedData, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four batches the one at fault: its pictures as the network saw them, where they are from, its losses."""
    seen: list[Part] = []
    computed = engine.step_losses

    def losses(model: Any, part: Part, generator: Any, done: int, **rest: Any) -> Any:
        seen.append(part)
        found = computed(model, part, generator, done, **rest)
        return found | {"box": found["box"] * (torch.nan if len(seen) == 7 else 1)}

    monkeypatch.setattr(engine, "step_losses", losses)
    config = make_config("train.accumulate=4", "train.seed=5", f"model.channel_order={order}")
    with pytest.raises(CondinstError) as caught:
        train(config, data, tmp_path)
    folder = tmp_path / "non-finite-2"
    part = seen[6]
    names = [path.name for (path,) in part.batch.paths]
    assert f"iteration 2: box, total, grad_norm not finite; its pictures, {', '.join(names)}, are in {folder};" in str(
        caught.value
    )
    document = json.loads((folder / "batch.json").read_text())
    assert (document["iteration"], document["seed"], document["process"]) == (2, 5, 0)
    (record,) = document["parts"]
    assert record["losses"]["box"] == "nan"
    assert float(record["losses"]["classification"]) > 0
    assert sorted(path.name for path in folder.iterdir()) == ["0-2-0.png", "0-2-1.png", "batch.json"]
    pictures = TrainingSet(data, config.augment, 4, 5)
    for picture, truth in zip(record["pictures"], part.batch.truths, strict=True):
        (file,) = picture["files"]
        index = next(i for i, sample in enumerate(data.samples) if str(sample.path) == file)
        assert picture["index"] == index
        assert picture["boxes"] == truth.boxes.tolist()
        assert set(picture["labels"]) <= {"nucleus"}
        again = pictures[(picture["epoch"], picture["index"])]  # what the record is for
        assert np.array_equal(np.asarray(Image.open(folder / picture["picture"])), again.image)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_too_little_memory_is_one_line(
    tmp_path: Path, data: AnnotatedData, error: RuntimeError, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(engine, "step_losses", losses)
    with pytest.raises(CondinstError if told else RuntimeError) as caught:
        train(make_config("train.batch_size=4", "train.accumulate=2"), data, tmp_path)
    if told:
        assert "try train.batch_size=2 train.accumulate=4" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_patience_needs_measurements(tmp_path: Path, data: AnnotatedData) -> None:
    for given, val in (([], data), (["train.validate_every=1"], None)):
        with pytest.raises(
            UsageError, match=r"train.patience=2: patience needs measurements .* set train.validate_every"
        ):
            train(make_config("train.patience=2", *given), data, tmp_path / "run", val=val)
    assert not (tmp_path / "run").exists()


def test_the_best_and_the_last(tmp_path: Path, data: AnnotatedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the masks' AP, or the boxes' where there are no masks to measure; half precision in both."""
    measured = engine.evaluate
    for kind, unknown in (("segm", False), ("bbox", True)):
        made_up = iter([0.25, 0.5, 0.125, 0.375])

        def scored(*inputs: Any) -> Any:
            scores = measured(*inputs)
            segm = replace(scores.segm, AP=-1.0 if unknown else next(made_up))  # noqa: B023
            return replace(scores, segm=segm, bbox=replace(scores.bbox, AP=next(made_up) if unknown else 0.9))  # noqa: B023

        monkeypatch.setattr(engine, "evaluate", scored)
        folder = tmp_path / kind
        config = make_config("train.validate_every=1", "train.half=true", "train.schedule=step", "train.milestones=[]")
        train(config, data, folder, val=data)
        train(config.with_overrides(["train.iterations=2", "train.validate_every=0"]), data, tmp_path / f"{kind} short")
        best, last = weights(folder), weights(folder / "last")
        assert {tensor.dtype for tensor in best.values() if tensor.ndim > 1} == {torch.float16}
        assert [name for name in best if not torch.equal(best[name], last[name])] != []
        second = weights(tmp_path / f"{kind} short")  # a run that ended where the best was found
        assert [name for name in best if not torch.equal(best[name], second[name])] == []
        with (folder / "scores.csv").open() as file:
            rows_ = list(csv.DictReader(file))
        assert [row["mask_AP"] if kind == "segm" else row["box_AP"] for row in rows_] == [
            "0.25",
            "0.5",
            "0.125",
            "0.375",
        ]
        assert load_model(folder)[1].train == load_model(folder / "last")[1].train
