"""What a run tells TensorBoard, Weights & Biases and MLflow, read back from what they wrote."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine.run_folder import trackers
from condinst.engine.train import train
from condinst.errors import CondinstError, UsageError

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

NUCLEI = Path(__file__).parent.parent.parent / "data" / "nuclei"
SMALL: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_035", "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 8},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "batch_size": 2, "workers": 0, "iterations": 4, "log_every": 2, "validate_every": 2},
}


def trained(folder: Path, name: str) -> Path:
    data, val = (read_coco(NUCLEI / f"{split}.json", NUCLEI / "images") for split in ("train", "val"))
    config = Config.from_dict(SMALL).with_overrides([f"train.trackers=[{name}]"])
    train(config, data, folder, val=val)
    return folder


def table(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(iteration, value) by tracked name, from the tables."""
    found: dict[str, list[tuple[int, float]]] = {}
    for kind, file in (("train", "log.csv"), ("val", "scores.csv")):
        for row in table(folder / file):
            for name, value in row.items():
                if name != "iteration":
                    found.setdefault(f"{kind}/{name}", []).append((int(row["iteration"]), value))
    return found


def test_tensorboard(tmp_path: Path) -> None:
    """Every number of the tables, at its iteration."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained(tmp_path / "run", "tensorboard")
    events = EventAccumulator(str(folder / "tensorboard" / "condinst")).Reload()
    wanted = expected(folder)
    assert {"train/mask", "train/lr", "val/mask_AP", "val/box_AP50", "train/memory_mb"} <= set(wanted)
    assert set(events.Tags()["scalars"]) == set(wanted)
    for name, points in wanted.items():
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [iteration for iteration, _ in points] == [2, 4]
        assert [scalar.value for scalar in scalars] == pytest.approx([value for _, value in points], rel=1e-4)


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the model where nobody has said otherwise."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = trained(tmp_path / "a run", "mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'condinst'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "a run"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.iterations"] == "4"
    for name, points in expected(folder).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, pytest.approx(point.value, rel=1e-4)) for point in history] == points


@pytest.mark.slow
def test_wandb(tmp_path: Path) -> None:
    """Without its server: what it would send lies in the run's folder. In a process of its own, as it starts others."""
    if find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_trackers import trained
trained(Path({str(tmp_path / "run")!r}), "wandb")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    content = written.read_bytes()
    for name in ("train/classification", "val/mask_AP", "train.iterations"):
        assert name.encode() in content


def test_one_that_is_missing_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"^train.trackers: mlflow is not installed; pip install 'condinst\[mlflow\]'$"
    ):
        trained(tmp_path / "run", "mlflow")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"train.trackers.*'tensorboard', 'wandb' or 'mlflow'"):
        Config.from_dict(SMALL).with_overrides(["train.trackers=[visdom]"])


def test_one_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    """Its folder is a file."""
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    with pytest.raises(CondinstError, match=r"^train.trackers=\['tensorboard'\]: cannot start \(.*\)$"):
        trained(tmp_path / "run", "tensorboard")
