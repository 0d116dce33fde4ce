"""The routes of the server."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response

from condinst import __version__
from condinst.inference.instances.classes import read_labels
from condinst.serve.formats import JSON, Format
from condinst.serve.http.access import Access
from condinst.serve.http.body import FIELDS, MULTIPART
from condinst.serve.http.errors import add_errors, described, only_known
from condinst.serve.http.observe import Observe
from condinst.serve.http.page import PAGE, html_response
from condinst.serve.http.reference import reference_page
from condinst.serve.kserve import add_kserve
from condinst.serve.label_studio.pictures import Pictures
from condinst.serve.label_studio.routes import add_label_studio
from condinst.serve.refusal import RequestError
from condinst.serve.service import Service, parse_size
from condinst.serve.work.jobs import Settings

ABOUT = "Instance segmentation with CondInst. An error is one line of JSON with the key error."
NOTES = "X-Condinst-Notes"  # a header with a JSON list of remarks on how the picture was read
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {FIELDS[0]: _BINARY["schema"]}, "required": [FIELDS[0]]}}
BODY = {"requestBody": {"required": True, "content": {"image/*": _BINARY, MULTIPART: _FORM}}}
ANSWER: dict[str, Any] = {
    "description": "The instances, in the format of the query.",
    "content": {JSON: {}, "image/png": {}, "text/csv": {}},
}


def make_app(service: Service, pictures: Pictures, token: str) -> FastAPI:
    """The application of a server. token: the bearer token that requests need, or ""."""
    app = FastAPI(title="condinst", version=__version__, description=ABOUT, docs_url=None, redoc_url=None)
    app.add_middleware(Access, token=token)
    app.add_middleware(Observe, metrics=service.metrics)
    add_errors(app)
    _add_pages(app)
    _add_state(app, service)
    _add_predict(app, service)
    add_label_studio(app, service, pictures)
    add_kserve(app, service)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return html_response(PAGE.read_text(encoding="utf-8"))

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return html_response(reference_page(app.openapi()))


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the server can predict")
    def healthz() -> dict[str, str]:
        if service.worker.broken:
            raise RequestError(500, service.worker.broken)
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether the server accepts pictures")
    def readyz() -> dict[str, str]:
        if service.queue.closed:
            raise RequestError(503, service.queue.closed, retry_after=5)
        return {"status": "ready"}

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="The models and their classes")
    def models() -> dict[str, Any]:
        return {"models": service.models.describe()}


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict",
        summary="Segment one picture",
        response_class=Response,
        responses={200: ANSWER, **described()},
        openapi_extra=BODY,
        dependencies=[Depends(only_known)],
    )
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A name from /v1/models. Default: the first model.")] = None,
        conf: Annotated[float | None, Query(ge=0, le=1, description="Lowest score. Default: 0.5.")] = None,
        iou: Annotated[
            float | None, Query(ge=0, le=1, description="NMS removes the worse of two detections with this IoU.")
        ] = None,
        max_detections: Annotated[int | None, Query(ge=1, description="Maximum number of instances.")] = None,
        classes: Annotated[list[str] | None, Query(description="Classes to keep, separated by commas.")] = None,
        size: Annotated[str | None, Query(description="Shorter side in pixels, or SHORTER,LONGER.")] = None,
        tile: Annotated[
            str | None,
            Query(
                description="Cut larger pictures into tiles of this side in pixels and join their objects; auto; off."
            ),
        ] = None,
        overlap: Annotated[
            float | None,
            Query(ge=0, le=32_768, description="What neighbouring tiles share: a part of the side below 1, or pixels."),
        ] = None,
        format: Annotated[Format, Query(description="Format of the answer.")] = Format.coco,
    ) -> Response:
        start = time.perf_counter()
        name = service.models.choose(model)
        labels = None if classes is None else read_labels(classes, service.models.predictors[name].names)
        sides = None if size is None else parse_size(size)
        wanted = service.wanted(name, Settings(conf, iou, max_detections, labels, sides, tile, overlap))
        answer = await service.predict(request, wanted, format)
        total = 1000 * (time.perf_counter() - start)
        timing = ", ".join(f"{name};dur={value:.1f}" for name, value in {**answer.stages, "total": total}.items())
        headers = {"Server-Timing": timing} | ({NOTES: json.dumps(answer.notes)} if answer.notes else {})
        return Response(answer.content, media_type=answer.media_type, headers=headers)
