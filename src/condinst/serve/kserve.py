"""KServe's protocol, version 2, over HTTP: the input `image` is one encoded picture of type BYTES."""

from __future__ import annotations

import base64
import json
import time
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response

from condinst import __version__
from condinst.inference.instances.classes import read_labels
from condinst.inference.result import Result
from condinst.serve.formats import JSON, Answer
from condinst.serve.http.errors import described
from condinst.serve.refusal import RequestError
from condinst.serve.service import Service, parse_size
from condinst.serve.work.jobs import Job, Settings
from condinst.strict_json import parse_json

HEAD = "inference-header-content-length"  # bytes of JSON before the binary data
INPUT = {"name": "image", "datatype": "BYTES", "shape": [1]}
OUTPUTS = {"boxes": ("FP32", [-1, 4]), "scores": ("FP32", [-1]), "labels": ("INT64", [-1]), "masks": ("BYTES", [-1])}
Document = dict[str, Any]


def add_kserve(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    models = service.models

    @app.get("/v2/health/live", summary="KServe: whether the server runs")
    def live() -> Document:
        return {"live": not service.worker.broken}

    @app.get("/v2/health/ready", summary="KServe: whether the server accepts pictures")
    def ready() -> Document:
        if service.queue.closed:
            raise RequestError(503, service.queue.closed, retry_after=5)
        return {"ready": True}

    @app.get("/v2/models/{name}", summary="KServe: the input and outputs of a model")
    def metadata(name: str) -> Document:
        outputs = [{"name": each, "datatype": kind, "shape": shape} for each, (kind, shape) in OUTPUTS.items()]
        known = {
            "name": models.choose(name),
            "versions": [models.versions[name]],
            "platform": f"condinst {__version__}",
        }
        return {**known, "inputs": [INPUT], "outputs": outputs}

    @app.get("/v2/models/{name}/ready", summary="KServe: whether a model is loaded")
    def model_ready(name: str) -> Document:
        return {"name": models.choose(name), "ready": True}

    @app.post(
        "/v2/models/{name}/infer", summary="KServe: segment a picture", response_class=Response, responses=described()
    )
    async def infer(request: Request, name: str) -> Response:
        model = models.choose(name)
        async with service.reader.whole(request) as body:
            document, content = read_request(body, request.headers.get(HEAD))
            wanted = service.wanted(model, settings_of(document.get("parameters", {}), models.predictors[model].names))
            made = partial(render, model=model, version=models.versions[model], number=document.get("id"))
            ends = time.monotonic() + service.deadline
            answer = await service.answer(request, Job(await service.kind(content, wanted), content, made, ends))
        return Response(answer.content, media_type=JSON)


def read_request(body: bytes, head: str | None) -> tuple[Document, bytes]:
    """The JSON of a request and its picture: in base64, or in bytes behind the JSON. Raises RequestError (422)."""
    length = int(head) if head and head.isdecimal() else len(body)
    try:
        document = parse_json(body[:length])
        (given,) = document["inputs"]
        if (given["name"], given["datatype"], given["shape"]) != (INPUT["name"], INPUT["datatype"], INPUT["shape"]):
            raise ValueError
        if "data" in given:
            return document, base64.b64decode(given["data"][0], validate=True)
        size = int(given["parameters"]["binary_data_size"])
        if len(body) != length + size or int.from_bytes(body[length : length + 4], "little") != size - 4:
            raise ValueError
        return document, body[length + 4 :]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise RequestError(
            422, "expected JSON with one input: image, BYTES, shape [1], in base64 or as binary data"
        ) from None


def settings_of(parameters: object, names: dict[int, str]) -> Settings:
    """The parameters, named as the fields of Settings. Raises RequestError (422) for another one."""
    unknown = set(parameters) - set(Settings.__annotations__) if isinstance(parameters, dict) else {"parameters"}
    if not isinstance(parameters, dict) or unknown:
        raise RequestError(422, f"parameters: expected some of {', '.join(Settings.__annotations__)}")
    given = dict(parameters)
    if "classes" in given:
        given["classes"] = read_labels([str(given["classes"])], names)
    if "size" in given:
        given["size"] = parse_size(str(given["size"]))
    return Settings(**given)


def render(result: Result, model: str, version: str, number: object) -> Answer:
    """The outputs of a picture."""
    values = {
        "boxes": result.boxes.xyxy.flatten().tolist(),
        "scores": result.boxes.conf.tolist(),
        "labels": result.boxes.cls.tolist(),
        "masks": [json.dumps(rle) for rle in result.masks.rle],
    }
    shapes = {name: [len(result), *shape[1:]] for name, (_, shape) in OUTPUTS.items()}
    outputs = [
        {"name": name, "datatype": kind, "shape": shapes[name], "data": values[name]}
        for name, (kind, _) in OUTPUTS.items()
    ]
    known = {"model_name": model, "model_version": version} | ({} if number is None else {"id": number})
    return Answer(json.dumps({**known, "outputs": outputs}).encode(), JSON, result.speed)
