"""The routes of the server."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from condinst import __version__
from condinst.serve.formats import Format
from condinst.serve.http.access import Access
from condinst.serve.http.page import PAGE, html_response
from condinst.serve.refusal import RequestError, error_line
from condinst.serve.service import Service

GONE = 499  # the client closed the connection; nobody reads this status


def make_app(service: Service, token: str) -> FastAPI:
    """The application of a server. token: the bearer token that requests need, or ""."""
    app = FastAPI(title="condinst", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Access, token=token)
    _add_errors(app)
    _add_state(app, service)
    _add_predict(app, service)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return html_response(PAGE.read_text(encoding="utf-8"))

    return app


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the server can predict at all")
    def healthz() -> dict[str, str]:
        if service.worker.broken:
            raise RequestError(500, service.worker.broken)
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether the server accepts pictures")
    def readyz() -> dict[str, str]:
        if service.queue.closed:
            raise RequestError(503, service.queue.closed, retry_after=5)
        return {"status": "ready"}

    @app.get("/metrics", summary="Numbers for Prometheus")
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="The models and their classes")
    def models() -> dict[str, Any]:
        return {"models": service.models.describe()}


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", summary="Segment one picture")
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A name from /v1/models. Default: the first model.")] = None,
        conf: Annotated[float | None, Query(ge=0, le=1, description="Lowest score. Default: 0.5.")] = None,
        iou: Annotated[float | None, Query(ge=0, le=1, description="Threshold of the NMS.")] = None,
        max_detections: Annotated[int | None, Query(ge=1, description="Most instances.")] = None,
        classes: Annotated[list[str] | None, Query(description="Classes to keep, separated by commas.")] = None,
        size: Annotated[str | None, Query(description="Shorter side in pixels, or SHORTER,LONGER.")] = None,
        format: Annotated[Format, Query(description="The format of the answer.")] = Format.coco,
    ) -> Response:
        start = time.perf_counter()
        job = service.wanted(model, conf, iou, max_detections, classes, size, format)
        answer = await service.predict(request, job)
        total = 1000 * (time.perf_counter() - start)
        timing = ", ".join(f"{name};dur={value:.1f}" for name, value in {**answer.stages, "total": total}.items())
        return Response(answer.content, media_type=answer.media_type, headers={"Server-Timing": timing})


def _add_errors(app: FastAPI) -> None:
    """Answer every error with one line of JSON."""

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return Response(error.content, error.status, dict(error.headers), "application/json")

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        message = f"{first['loc'][-1]}: {first['msg']}, got {first['input']!r:.60}"
        return Response(error_line(message), 422, media_type="application/json")

    def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        hint = "" if error.status_code == 400 else "GET /docs lists what the server answers"
        headers = dict(error.headers or {})
        return Response(error_line(message, hint), error.status_code, headers, "application/json")

    def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=GONE)

    app.add_exception_handler(RequestError, refuse)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(ClientDisconnect, gone)
