"""KServe's protocol on a real server."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from condinst.predictor import Predictor
from tests.serve.running import NUCLEI

CONTENT = NUCLEI.read_bytes()
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}
ENCODED = {**IMAGE, "data": [base64.b64encode(CONTENT).decode()]}


def infer(client: httpx.Client, **document: Any) -> httpx.Response:
    return client.post("/v2/models/nuclei/infer", json={"inputs": [ENCODED], **document})


def test_infer(client: httpx.Client) -> None:
    answer = infer(
        client, id="a7", parameters={"conf": 0.7, "classes": "nucleus", "size": 320, "max_detections": 20}
    ).json()
    result = Predictor("nuclei")(CONTENT, conf=0.7, size=320, max_detections=20)
    assert (answer["id"], answer["model_name"]) == ("a7", "nuclei")
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert {name: each["shape"] for name, each in outputs.items()} == {
        "boxes": [len(result), 4], "scores": [len(result)], "labels": [len(result)], "masks": [len(result)]
    }  # fmt: skip
    assert np.array_equal(np.reshape(outputs["boxes"]["data"], (-1, 4)), result.boxes.xyxy.numpy())
    assert outputs["scores"]["data"] == result.conf.tolist()
    assert [json.loads(text) for text in outputs["masks"]["data"]] == list(result.masks.rle)


def test_binary_data(client: httpx.Client) -> None:
    given = {**IMAGE, "parameters": {"binary_data_size": len(CONTENT) + 4}}
    head = json.dumps({"inputs": [given]}).encode()
    body = head + len(CONTENT).to_bytes(4, "little") + CONTENT
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post("/v2/models/nuclei/infer", content=body, headers=headers)
    assert answer.json()["outputs"] == infer(client).json()["outputs"]
    assert client.post("/v2/models/nuclei/infer", content=body[:-1], headers=headers).status_code == 422


def test_metadata(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/fungi/ready").json()["ready"] is True
    model = client.get("/v2/models/nuclei").json()
    assert model["inputs"] == [IMAGE]
    assert [each["name"] for each in model["outputs"]] == ["boxes", "scores", "labels", "masks"]
    assert client.get("/v2/models/other").status_code == 404


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"inputs": []}, 422),
        ({"inputs": [ENCODED, ENCODED]}, 422),
        ({"inputs": [{**ENCODED, "datatype": "FP32"}]}, 422),
        ({"inputs": [{**ENCODED, "data": ["%"]}]}, 422),
        ({"inputs": [IMAGE]}, 422),
        ({"inputs": [{**ENCODED, "data": [base64.b64encode(b"no picture").decode()]}]}, 415),
        ({"parameters": {"confidence": 0.5}}, 422),
        ({"parameters": {"conf": "high"}}, 422),
        ({"parameters": {"conf": 7}}, 422),
        ({"parameters": {"max_detections": 1.5}}, 422),
        ({"parameters": {"classes": "cell"}}, 422),
        ({"parameters": [1]}, 422),
    ],
)
def test_bad_requests(client: httpx.Client, document: dict[str, Any], status: int) -> None:
    answer = infer(client, **document)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
