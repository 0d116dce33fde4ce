"""POST /v1/predict on a real server: the answers equal those of a Predictor and of condinst predict."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from condinst.cli.main import app
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import decode
from condinst.predictor import Predictor
from tests.serve.running import NUCLEI, PICTURES

MUSHROOMS = next((PICTURES / "mushrooms").glob("*.jpg"))


@pytest.fixture(scope="module")
def result() -> Result:
    return Predictor("nuclei")(NUCLEI.read_bytes())


def post(client: httpx.Client, path: Path = NUCLEI, **query: object) -> httpx.Response:
    return client.post("/v1/predict", content=path.read_bytes(), params=query)  # type: ignore[arg-type]


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
    raw = client.post("/v1/predict", content=NUCLEI.read_bytes(), headers={"Content-Type": "image/png"}).json()
    form = client.post("/v1/predict", files={"file": ("../b/a\n.png", NUCLEI.read_bytes())}).json()
    assert raw["images"][0]["file_name"] == "image"
    assert form["images"][0]["file_name"] == "a%0A.png"  # httpx escapes the line break
    assert raw["annotations"] == form["annotations"]


def test_settings_of_a_request_are_those_of_the_predictor(client: httpx.Client) -> None:
    predictor = Predictor("mushrooms")
    name = predictor.names[0]
    wanted = predictor(MUSHROOMS.read_bytes(), conf=0.05, classes=[name], max_detections=3, size=(300, 400), iou=0.3)
    query = {"conf": 0.05, "classes": f"{name},0", "max_detections": 3, "size": "300,400", "iou": 0.3}
    found = post(client, MUSHROOMS, model="fungi", **query).json()["annotations"]
    assert 0 < len(found) == len(wanted) <= 3
    assert [each["segmentation"] for each in found] == list(wanted.masks.rle)
    assert post(client, MUSHROOMS, model="fungi").json()["annotations"] != found


def test_polygons_cover_the_masks(client: httpx.Client, result: Result) -> None:
    document = post(client, format="polygons").json()
    assert document["image"] == {"file_name": "image", "width": 256, "height": 256}
    assert len(document["instances"]) == len(result)
    for instance, polygons, rle in zip(document["instances"], result.polygons, result.masks.rle, strict=True):
        assert instance["class"] == "nucleus"
        assert instance["area"] == int(decode(rle).sum())
        rings = [np.array(part["outer"]) for part in instance["polygons"]]
        assert all(np.array_equal(ring, part.outer) for ring, part in zip(rings, polygons, strict=True))


def test_labelme(client: httpx.Client, result: Result) -> None:
    document = post(client, format="labelme").json()
    assert document == result.to_labelme("image")
    assert len(document["shapes"]) >= len(result)


def test_csv(client: httpx.Client, result: Result) -> None:
    answer = post(client, format="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text == result.to_csv()


def test_pictures(client: httpx.Client, result: Result) -> None:
    overlay = post(client, format="png")
    assert overlay.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(overlay.content))), result.plot())
    labels = post(client, format="label-image")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(labels.content))), result.label_image())


def test_an_answer_tells_how_long_it_took(client: httpx.Client) -> None:
    timing = post(client).headers["server-timing"]
    assert [part.split(";")[0] for part in timing.split(", ")] == ["preprocess", "inference", "postprocess", "total"]


def test_a_remark_on_the_picture_is_in_the_answer(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4000, 100)).save(file, "PNG")
    answer = client.post("/v1/predict", content=file.getvalue())
    assert "condinst cuts it into 20 tiles" in answer.json()["info"]["notes"][0]
    assert json.loads(answer.headers["x-condinst-notes"]) == answer.json()["info"]["notes"]
    assert "x-condinst-notes" in client.post("/v1/predict?format=csv", content=file.getvalue()).headers
    assert "x-condinst-notes" not in post(client).headers


def test_models(client: httpx.Client) -> None:
    first, second = client.get("/v1/models").json()["models"]
    assert first == {
        "name": "nuclei", "classes": ["nucleus"], "default": True, "conf": 0.5, "mode": "exact", "device": "cpu"
    }  # fmt: skip
    assert (second["name"], second["default"]) == ("fungi", False)
