"""The routes that Label Studio calls. They exist at / for the default model, and at /label-studio/MODEL for each."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from condinst.errors import CondinstError, one_line
from condinst.serve.formats import JSON, Answer
from condinst.serve.http.errors import described
from condinst.serve.label_studio.config import Control, find_control, labels_of_classes
from condinst.serve.label_studio.pictures import Pictures
from condinst.serve.label_studio.regions import prediction
from condinst.serve.refusal import RequestError, refusal_of
from condinst.serve.service import Service
from condinst.serve.work.jobs import Job, Settings
from condinst.strict_json import parse_json

log = logging.getLogger("condinst.serve")
Document = Mapping[str, Any]
NO_TRAINING = "the server does not train; export the annotations and run: condinst train"


def add_label_studio(app: FastAPI, service: Service, pictures: Pictures) -> None:
    """Add the routes."""
    for prefix in ("", "/label-studio/{model}"):
        app.include_router(_router(Backend(service, pictures)), prefix=prefix, tags=["Label Studio"])


class Backend:
    """Answers the requests of Label Studio."""

    def __init__(self, service: Service, pictures: Pictures) -> None:
        self.service, self.pictures = service, pictures

    async def setup(self, request: Request) -> Document:
        """Check that the model's classes have labels in the project. Label Studio hides the reason of a refusal."""
        name = self.service.models.choose(request.path_params.get("model"))
        document = await self._document(request)
        try:
            self._labels(find_control(_text(document, "schema")), name)
        except RequestError as error:
            log.warning("Label Studio cannot use the model '%s': %s", name, one_line(error.message))
            raise
        return {"model_version": self.service.models.versions[name]}

    async def webhook(self, request: Request) -> Document:
        """Accept an event. Raises RequestError (501) for the one that begins a training."""
        document = await self._document(request)
        if document.get("action") == "START_TRAINING":
            raise RequestError(501, NO_TRAINING)
        return {"status": "ignored"}

    async def predict(self, request: Request) -> Response:
        """Predict the tasks of a request, one after the other.

        A task whose picture cannot be used gets no regions and a line in the log. If no task can be predicted, the
        first error is the answer.
        """
        name = self.service.models.choose(request.path_params.get("model"))
        document = await self._document(request)
        control = find_control(_text(document, "label_config"))
        labels = self._labels(control, name)
        tasks = document.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise RequestError(422, "tasks: expected a list of tasks")
        outcomes = [await self._outcome(request, task, control, labels, name) for task in tasks]
        errors = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
        if errors and len(errors) == len(outcomes):
            raise errors[0]
        empty = b'{"result": [], "score": 0.0}'
        parts = [empty if isinstance(outcome, RequestError) else outcome.content for outcome in outcomes]
        version = json.dumps(self.service.models.versions[name]).encode()
        return Response(b'{"model_version": %s, "results": [%s]}' % (version, b", ".join(parts)), media_type=JSON)

    async def _outcome(
        self, request: Request, task: Document, control: Control, labels: Mapping[int, str], model: str
    ) -> Answer | RequestError:
        try:
            return await self._predict(request, task, control, labels, model)
        except (CondinstError, RequestError) as error:
            refused = refusal_of(error) if isinstance(error, CondinstError) else error
            if refused.status >= 500:
                raise
            message = f"task {task.get('id', '?')!s:.20}: {refused.message}"
            log.warning("left out: %s", one_line(message))
            return RequestError(refused.status, message)

    async def _predict(
        self, request: Request, task: Document, control: Control, labels: Mapping[int, str], model: str
    ) -> Answer:
        data = task.get("data")
        place = data.get(control.key) if isinstance(data, dict) else None
        if not isinstance(place, str):
            raise RequestError(422, f"data: expected the place of a picture under '{control.key:.60}'")
        content = await asyncio.to_thread(self.pictures.fetch, place)
        wanted = self.service.wanted(model, Settings(classes=tuple(labels)))
        render = partial(prediction, control=control, labels=labels, version=self.service.models.versions[model])
        ends = time.monotonic() + self.service.deadline
        return await self.service.answer(request, Job(await self.service.kind(content, wanted), content, render, ends))

    def _labels(self, control: Control, model: str) -> dict[int, str]:
        return labels_of_classes(control, self.service.models.predictors[model].names)

    async def _document(self, request: Request) -> Document:
        async with self.service.reader.whole(request) as body:
            try:
                document = parse_json(body)
            except (ValueError, RecursionError):
                raise RequestError(400, "the body is not JSON") from None
        if not isinstance(document, dict):
            raise RequestError(422, "expected a JSON object")
        return document


def _router(backend: Backend) -> APIRouter:
    router = APIRouter(responses=described())

    @router.get("/health", summary="Whether the backend works")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "CondInst"}

    @router.post("/setup", summary="Check the labels of a project")
    async def setup(request: Request) -> Document:
        return await backend.setup(request)

    @router.post("/predict", summary="Predict tasks", response_class=Response)
    async def predict(request: Request) -> Response:
        return await backend.predict(request)

    @router.post("/webhook", summary="Accept an event, and do nothing")
    async def webhook(request: Request) -> Document:
        return await backend.webhook(request)

    @router.post("/train", summary="Refuse to train")
    def train() -> None:
        raise RequestError(501, NO_TRAINING)

    return router


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise RequestError(422, f"{key}: expected a text")
    return value
