"""`condinst info`: what a model is, for people and as JSON, with nothing fetched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from condinst.weights.catalogue import CATALOGUE, commercial_use
from condinst.weights.fetch import torch_cache
from condinst.weights.obtain import obtain
from condinst.weights.published import adelaidet

Run = Callable[..., Result]


def read(run: Run, model: object) -> dict[str, Any]:
    outcome = run("info", model, "--json")
    assert outcome.exit_code == 0, outcome.output
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def test_published_model_that_is_not_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    name = "adelaidet/BoxInst_MS_R_101_BiFPN_dcni3_3x"
    found = read(run, name)
    assert found["about"]["licence"] == "non-commercial use only"
    assert found["about"]["box AP"] == "0.464 on COCO val2017, reported by AdelaiDet"
    assert "deformable in every block" in found["backbone"]
    assert found["pyramid"] == "BiFPN, 6 repeats, 160 channels"
    assert found["filters"] == 233
    assert found["strides"] == [8, 16, 32, 64, 128]
    assert len(found["classes"]) == 80
    assert found["file"] == CATALOGUE[name].address
    assert found["bytes"] is None
    text = run("info", name).stdout
    for word in (
        name,
        "not downloaded; the first use downloads it",
        "BGR",
        "√(class · centerness)",
        "toothbrush",
        "0.348",
    ):
        assert word in text


def test_mmdetections_model_in_the_cache(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "mmdetection/boxinst_r50_fpn_ms-90k_coco"
    torch_cache().mkdir(parents=True)
    path = torch_cache() / CATALOGUE[name].file
    path.write_bytes(b"x" * 1234)
    found = read(run, name)
    assert (found["file"], found["bytes"]) == (str(path), 1234)
    assert found["filters"] == 593
    assert found["score"] == "class · centerness"
    assert found["about"]["licence"] == "Apache-2.0"


@pytest.mark.parametrize("name", ["rtmdet-ins-s", "mmdetection/rtmdet-ins_s_8xb32-300e_coco"])
def test_rtmdet_ins_that_is_not_here(name: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = read(run, name)
    assert found["backbone"] == "cspnext_s, norms of the batch"
    assert found["pyramid"] == "PAFPN, 1 block in each stage, 128 channels"
    assert found["head"] == "RTMDet, a tower for classes and boxes and one for filters of 2 convolutions, 128 channels"
    assert found["input"] == "BGR, shorter side 640, longer at most 640 px, padded to 640×640"
    assert (found["score"], found["filters"], found["strides"]) == ("class", 169, [8, 16, 32])
    parts = dict(found["parameters"])
    assert parts.pop("total") == sum(parts.values()) == 10_183_311
    assert parts["backbone"] == 4_378_320
    assert len(found["classes"]) == 80
    assert (found["about"]["licence"], found["about"]["commercial use"]) == ("Apache-2.0", "yes")
    text = run("info", name).stdout
    assert "10,183,311" in text
    for copy in CATALOGUE["mmdetection/rtmdet-ins_s_8xb32-300e_coco"].copies:
        assert copy.address in re.sub(r"[\s│]", "", text)


def test_a_mirror_in_the_cache(run: Run, hub: Any) -> None:
    checkpoint = CATALOGUE["mmdetection/rtmdet-ins_s_8xb32-300e_coco"]
    mirror = checkpoint.copies[1]
    hub.publish(mirror.place, {mirror.file: b"x" * 1234})
    path = obtain(mirror)
    found = read(run, "rtmdet-ins-s")
    assert (found["file"], found["bytes"]) == (str(path), 1234)


def test_folder(run: Run, model_folder: Path) -> None:
    found = read(run, model_folder)
    assert found["backbone"].startswith("mobilenetv2_050")
    assert found["classes"] == ["nucleus"]
    assert found["input"] == "RGB, shorter side 64, longer at most 96 px, padded to a multiple of 32"
    assert found["file"] == str(model_folder / "model.safetensors")
    assert found["bytes"] == (model_folder / "model.safetensors").stat().st_size
    parts = dict(found["parameters"])
    total = parts.pop("total")
    assert set(parts) == {"backbone", "pyramid", "head", "mask branch"}
    assert total == sum(parts.values())
    assert 4 * total < found["bytes"] < 4.3 * total  # the file has buffers, too
    text = run("info", model_folder).stdout
    for word in ("classes (1)", "nucleus", "CC0", "0.20", "169", "MB"):
        assert word in text


def test_local_file_of_a_published_program(run: Run, written: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"model": written(adelaidet.FPN_LAYOUT), "iteration": 3}, path)
    found = read(run, path)
    assert found["about"]["origin"] == "AdelaiDet"
    assert found["classes"] == ["class 0", "class 1"]
    assert "stride on the first 1×1" in found["backbone"]


def test_words_of_a_stranger(run: Run, model_folder: Path, tmp_path: Path) -> None:
    """They reach a terminal as words only; JSON has them as they are."""
    shutil.copytree(model_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.yaml"
    path.write_text(path.read_text().replace("CC0", '"CC\\e[2J\\n0"'))
    text = run("info", tmp_path / "model").stdout
    assert "\x1b" not in text
    assert r"CC\x1b[2J 0" in text
    assert read(run, tmp_path / "model")["about"]["licence"] == "CC\x1b[2J\n0"


def test_unusable_models(run: Run, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.yaml"
    path.write_text(path.read_text().replace("- nucleus", "- nucleus\n  - other"))
    outcome = run("info", tmp_path / "model")
    assert outcome.exit_code == 4
    assert "head.class_logits.weight is [1, 64, 3, 3], expected [2, 64, 3, 3]" in outcome.stderr
    outcome = run("info", "adelaidet/CondInst_MS_R_50_3")
    assert outcome.exit_code == 4
    assert "did you mean 'adelaidet/CondInst_MS_R_50_3x'?" in outcome.stderr


def test_commercial_use_and_where_it_was_measured(run: Run) -> None:
    document = json.loads(run("models", "--json").stdout)
    assert document["rtmdet-ins-s"]["name"] == "mmdetection/rtmdet-ins_s_8xb32-300e_coco"
    assert document["rtmdet-ins-x"]["commercial use"] == "yes"
    uses = {name: row["commercial use"] for name, row in document.items()}
    assert uses["nuclei"] == uses["mushrooms"] == uses["granular"] == "yes"
    assert {use for name, use in uses.items() if name.startswith("adelaidet/")} == {"no"}
    assert {use for name, use in uses.items() if name.startswith("mmdetection/")} == {"yes"}
    assert document["nuclei"]["measured on"].startswith("67 held-out images with 2,621 objects, of nuclei")
    printed = run("models").stdout
    for words in ("commercial use", "67 held-out images", "The first use of a published model downloads it"):
        assert words in printed


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("Apache-2.0", "yes"),
        ("CC BY 4.0", "yes"),
        ("non-commercial use only", "no"),
        ("CC-BY-NC 4.0", "no"),
        ("", "unknown"),
        ("mine", "unknown"),
    ],
)
def test_commercial_use(licence: str, use: str) -> None:
    assert commercial_use(licence) == use
