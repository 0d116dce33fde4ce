"""Published recipes on two processes, started as documented: what must equal one process with the same global batch."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from condinst.engine.build import synchronise_norms
from condinst.engine.shared_norm import SharedNorm
from condinst.errors import UsageError
from condinst.model.condinst import CondInst
from condinst.recipes import load_recipe

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
PICTURES = ["06350c7cc618be44.png", "16c3d5935ba94b72.png"]  # of one size: one process must not pad for the other
ITERATIONS = 3
SMALL = [
    "augment.shorter=[96]",
    "augment.flip_horizontal=0",  # the same picture twice must be the same twice
    "train.init=none",
    f"train.iterations={ITERATIONS}",
    "train.batch_size=2",
    "train.lr=0.0001",  # as high as random weights bear
    "train.warmup_iterations=0",
    "train.workers=0",
    "train.log_every=1",
]
# name → recipe, pictures, settings, terms that must be equal
CASES = {
    "different": (
        "condinst-r50-1x",
        PICTURES,
        ["targets.max_mask_positives=5000", "train.sync_norms=all"],
        ("classification", "box", "quality", "mask", "total", "grad_norm"),
    ),
    "equal": (
        "condinst-r50-3x-sem",
        PICTURES[:1],
        ["model.backbone={name: resnet18, stride_in_1x1: false}", "targets.max_mask_positives=5000"],
        ("classification", "box", "quality", "mask", "semantic", "total", "grad_norm"),
    ),
    "dynamic": (  # its targets depend on the output of the network, so both processes assign before they share norms
        "rtmdet-ins-tiny",
        PICTURES,
        [
            *("augment.mosaic=0", "augment.mixup=0", "augment.hsv=[0,0,0]", "augment.jitter=[1,1]", "augment.crop=96"),
            *("input.shorter=96", "input.longer=96", "augment.longer=96", "train.lr=0.000001"),
        ],
        ("classification", "box", "mask", "total", "grad_norm"),
    ),
    # as published, each process adds one to the divisor of the classes, so that term depends on their number
    "cells": ("solov2-light-r18-3x", PICTURES, [], ("mask",)),
    "squares": (
        "blendmask-r50-1x",
        PICTURES,
        ["model.backbone={name: resnet18, stride_in_1x1: false}", "train.lr=0.00001"],
        ("classification", "box", "quality", "mask", "semantic", "total", "grad_norm"),
    ),
    "anchors": (
        "yolact-r50",
        PICTURES,
        [
            *("augment.part=false", "augment.surroundings=1", "augment.distort=false", "augment.longer=96"),
            *("input.shorter=96", "input.longer=96", "model.backbone={name: resnet18, norm: affine}"),
            *("targets.max_mask_positives=5000", "train.lr=0.00001"),
        ],
        ("classification", "box", "mask", "semantic", "total", "grad_norm"),
    ),
    "boxes": (
        "boxinst-r50-1x",
        PICTURES[:1],
        ["model.backbone={name: resnet18, stride_in_1x1: false}", "box_supervision.warmup_iterations=0"],
        ("classification", "box", "quality", "projection", "pairwise", "total", "grad_norm"),
    ),
}
SCRIPT = """
import json, sys
from condinst.cli.main import app
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
"""


def in_processes(count: int, runs: list[list[str]], folder: Path) -> None:
    """`condinst …` for each of `runs`, on `count` CPU processes."""
    script = folder / "several.py"
    script.write_text(SCRIPT)
    launcher = "accelerate.commands.accelerate_cli"
    # port 0: whichever is free
    several = ["-m", launcher, "launch", "--multi_gpu", "--num_processes", str(count), "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *(several if count > 1 else []), str(script), json.dumps(runs)],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def part_of(names: list[str], target: Path) -> Path:
    """The annotations of some of the pictures."""
    document = json.loads((NUCLEI / "train.json").read_bytes())
    document["images"] = [image for image in document["images"] if image["file_name"] in names]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [record for record in document["annotations"] if record["image_id"] in ids]
    target.write_text(json.dumps(document))
    return target


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Emptied at once: each run leaves some 400 MB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_processes_equal_one(folder: Path) -> None:
    """The same losses and weights from the same global batch, one picture a process.

    The first case has two different pictures, whose positives are shared unevenly, and shared norms: every term must
    agree. The others have the same picture twice, which needs none.
    """
    for count in (1, 2):
        runs = []
        for case, (recipe, pictures, settings, _) in CASES.items():
            annotations = part_of(pictures, folder / f"{case}.json")
            files = ["--data", annotations, "--images", NUCLEI / "images", "--out", folder / f"{case}{count}"]
            runs.append(["train", "--recipe", recipe, *map(str, files), *SMALL, *settings])
        in_processes(count, runs, folder)
    for case, (_, _, _, terms) in CASES.items():
        one, two = rows(folder / f"{case}1"), rows(folder / f"{case}2")
        assert len(one) == len(two) == ITERATIONS
        for term in terms:
            mine, theirs = ([row[term] for row in log] for log in (one, two))
            assert mine == pytest.approx(theirs, rel=1e-4), (case, term)
            assert len(set(mine)) == ITERATIONS
        alone, together = (load_file(folder / f"{case}{count}" / "model.safetensors") for count in (1, 2))
        for name, tensor in alone.items():
            if "running" not in name:  # unbiased variances of one picture and of two differ
                assert torch.allclose(tensor.double(), together[name].double(), rtol=1e-3, atol=1e-5), (case, name)


@pytest.mark.slow
def test_two_processes_that_accumulate_measure_and_stop(folder: Path) -> None:
    """A step of eight pictures, in two parts of two pictures a process or in two of four; the main one measures.

    The scores of an untrained network are all 0, so that `patience` ends both runs early, both processes at once.
    """
    recipe = folder / "tiny.yaml"
    model = {"backbone": {"name": "mobilenetv2_035", "frozen_stages": 0}, "fpn_channels": 16}
    values = {
        "model": model | {"head": {"convs": 1, "channels": 16}, "mask_branch": {"convs": 1, "channels": 8}},
        "input": {"shorter": 64, "longer": 96},
        "augment": {"shorter": [96], "longer": 400, "crop": 96},
        "loss": {"mask_weight": 0},
        "train": {
            "batch_size": 4,
            "accumulate": 2,
            "iterations": 50,
            "validate_every": 1,
            "patience": 2,
            "log_every": 1,
        },
    }
    recipe.write_text(json.dumps(values))  # which is YAML, too
    settings = ["train.init=none", "train.workers=0", "train.lr=0.0001", "train.warmup_iterations=0"]
    for count in (1, 2):
        files = ["--data", str(NUCLEI), "--recipe", str(recipe), "--out", str(folder / f"run{count}")]
        in_processes(count, [["train", *files, *settings]], folder)
    one, two = rows(folder / "run1"), rows(folder / "run2")
    assert [row["iteration"] for row in one] == [row["iteration"] for row in two] == [1, 2, 3]
    for term in ("classification", "box", "quality", "total", "grad_norm"):
        assert [row[term] for row in one] == pytest.approx([row[term] for row in two], rel=1e-4), term
    scores = [json.loads(line) for line in (folder / "run2" / "scores.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in scores] == [1, 2, 3]  # told once, not by each process
    alone, together = (load_file(folder / f"run{count}" / "last" / "model.safetensors") for count in (1, 2))
    for name, tensor in alone.items():
        if "running" not in name:
            assert torch.allclose(tensor.double(), together[name].double(), rtol=1e-3, atol=1e-5), name


# --- shared norms


def processes(count: int, device: str) -> Accelerator:
    return cast(Accelerator, SimpleNamespace(num_processes=count, device=torch.device(device)))


def bifpn() -> CondInst:
    settings: list[str] = ["model.backbone.name=mobilenetv2_035", "model.backbone.stride_in_1x1=false"]
    config = load_recipe("condinst-r50-bifpn-1x").with_overrides([*settings, "model.backbone.frozen_stages=0"])
    with torch.device("meta"):
        return CondInst(config.model).train()


def norms(module: nn.Module) -> list[Any]:
    return [child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(("which", "parts"), [("none", ""), ("pyramid", "fpn"), ("all", "fpn backbone mask_branch")])
def test_which_norms_are_shared(which: str, parts: str) -> None:
    model, plain = bifpn(), bifpn()
    synchronise_norms(model, which, processes(2, "cuda"))
    for name, part in model.named_children():
        shared = [isinstance(norm, nn.SyncBatchNorm) for norm in norms(part)]
        assert all(shared) if name in parts.split() else not any(shared)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in plain.parameters()]
    assert [norm.training for norm in norms(model)] == [norm.training for norm in norms(plain)]
    if which == "all":  # the activations that timm puts into its norms
        acts = [[type(norm.act) for norm in norms(m.backbone)] for m in (model, plain)]
        assert acts[0] == acts[1]
    model.train()
    assert not any(norm.training for norm in norms(model.backbone))


def test_where_norms_cannot_or_need_not_be_shared() -> None:
    model = bifpn()
    synchronise_norms(model, "all", processes(1, "cpu"))
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms(model))
    synchronise_norms(model, "pyramid", processes(2, "cpu"))
    assert all(isinstance(norm, SharedNorm) for norm in norms(model.fpn))
    assert not any(isinstance(norm, SharedNorm) for norm in norms(model.mask_branch))
    for norm in norms(model.backbone):
        norm.training = True
    with pytest.raises(UsageError, match=r"sync_norms=all: backbone.* is shared on GPUs only; set"):
        synchronise_norms(model, "all", processes(2, "cpu"))
