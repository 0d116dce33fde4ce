"""The comparison with Mask R-CNN: what is measured once, and the table over several seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import beside, mask_rcnn
from benchmarks.cards import card
from benchmarks.facts import read_facts
from condinst.config import Config
from condinst.errors import UsageError
from condinst.evaluation.coco import UNKNOWN

ROOT = Path(__file__).parent.parent.parent


def _scores(mask: float, box: float = 0.5) -> dict[str, Any]:
    """At a limit of 100."""
    segm, bbox = ({**UNKNOWN.__dict__, "AP": value, "AP50": 0.75} for value in (mask, box))
    counts = {"max_detections": 100, "images": 1, "truths": 1, "detections": 1, "notes": []}
    return {"100": {"bbox": bbox, "segm": segm, "bbox_per_class": {}, "segm_per_class": {}, **counts}}


def _write(folder: Path, data: str, seed: int, rival: float, own: float, longer: float | None) -> None:
    same_time = None if longer is None else {"iterations": 42, "seconds": 240, "scores": _scores(longer)}
    facts = {
        "recipe": "any",
        "data": data,
        "seed": seed,
        "command": f"train {data} {seed}",
        "parameters": 7,
        "iterations": 20,
        "images_seen": 80,
        "training_seconds": 240,
        "scores": _scores(rival),
        "condinst": _scores(own),
        "condinst_seconds": 120,
        "same_time": same_time,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{data}-{seed}.json").write_text(json.dumps(facts))


def test_means_are_over_the_seeds_that_have_them(tmp_path: Path) -> None:
    _write(tmp_path / "beside", "cells", 1, rival=0.3, own=0.5, longer=None)
    _write(tmp_path / "beside", "cells", 0, rival=0.4, own=0.3, longer=0.6)
    _write(tmp_path / "beside", "leaves", 0, rival=0.1, own=0.2, longer=None)
    lines = beside.pair_table(beside.read_pairs(tmp_path)).splitlines()
    start = "| cells | 2 | 100 | 80 images | 0.400 / 0.350 | 0.750 / 0.750 | 0.500 / 0.500 | +0.050 (-0.100, +0.200) |"
    assert any(line.startswith(start) for line in lines)
    assert "| cells | 1 | 100 | the same time: 168 / 80 images | 0.600 / 0.400 |" in "\n".join(lines)
    assert [line for line in lines if line.startswith("| leaves")] == [
        "| leaves | 1 | 100 | 80 images | 0.200 / 0.100 | 0.750 / 0.750 | 0.500 / 0.500 | +0.100 | 2 min / 4 min |"
    ]
    assert lines[-4:-1] == ["train cells 0", "train cells 1", "train leaves 0"]


def test_a_part_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script, trained = mask_rcnn, []

    def trains(seconds: float) -> Any:
        def train(config: Config, data: Path, folder: Path) -> float:
            folder.mkdir(parents=True)
            trained.append((folder.name, config.train.iterations))
            return seconds

        return train

    monkeypatch.setattr(script.torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(script, "train_rival", trains(300))
    monkeypatch.setattr(script, "train_own", trains(100))
    monkeypatch.setattr(script, "load_rival", lambda *_: None)
    monkeypatch.setattr(script, "load_own", lambda *_: None)
    monkeypatch.setattr(script, "measure", lambda *_: _scores(0.5))
    data, short = ROOT / "tests" / "data" / "nuclei", ["train.iterations=10"]
    script.main("nuclei", data, tmp_path, short, parts="condinst")
    assert not (tmp_path / "scores.json").exists()
    script.main("nuclei", data, tmp_path, short, parts="condinst,mask-rcnn,condinst-same-time")
    assert trained == [("condinst", 10), ("mask-rcnn", 10), ("condinst-same-time", 30)]
    facts = read_facts(tmp_path / "scores.json", card.Rival)
    assert (facts.data, facts.images_seen, facts.same_time.iterations) == ("nuclei, own recipe", 80, 30)
    with pytest.raises(UsageError, match="of other settings"):
        script.main("nuclei", data, tmp_path, ["train.iterations=9"])
    # a setting that Mask R-CNN does not read leaves its training as it is
    script.main("nuclei", data, tmp_path, [*short, "model.head.prior=0.02"], parts="mask-rcnn")
    assert len(trained) == 3
