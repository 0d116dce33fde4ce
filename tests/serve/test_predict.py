"""POST /v1/predict on a real server: the answers equal those of a Predictor and of condinst predict."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from typer.testing import CliRunner

from condinst.cli.main import app
from tests.serve.running import NUCLEI


def test_coco_is_the_document_of_condinst_predict(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.post("/v1/predict", files={"image": (NUCLEI.name, NUCLEI.read_bytes())})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    done = CliRunner().invoke(app, ["predict", str(NUCLEI), "--out", str(tmp_path), "--no-overlay"])
    assert done.exit_code == 0, done.output
    wanted = json.loads((tmp_path / "results.json").read_text())
    wanted["images"][0]["file_name"] = NUCLEI.name  # the command writes the whole path
    assert len(wanted["annotations"]) > 10
    assert answer.json() == wanted


def test_a_raw_body_is_a_picture_too(client: httpx.Client) -> None:
    headers = {"Content-Type": "image/png"}
    raw = client.post("/v1/predict", content=NUCLEI.read_bytes(), headers=headers).json()
    form = client.post("/v1/predict", files={"file": ("a.png", NUCLEI.read_bytes())}).json()
    assert raw["images"][0]["file_name"] == "image"
    assert form["images"][0]["file_name"] == "a.png"
    assert raw["annotations"] == form["annotations"]


def test_models(client: httpx.Client) -> None:
    first, second = client.get("/v1/models").json()["models"]
    assert first == {
        "name": "nuclei", "classes": ["nucleus"], "default": True, "conf": 0.5, "mode": "exact", "device": "cpu"
    }  # fmt: skip
    assert (second["name"], second["default"]) == ("fungi", False)
