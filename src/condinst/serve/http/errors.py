"""Every error becomes an answer with one line of JSON."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from condinst.errors import CondinstError
from condinst.serve.formats import JSON
from condinst.serve.refusal import RequestError, error_line, refusal_of

GONE = 499  # the client closed the connection; nobody reads this status
REPEATED = "classes"  # the query parameter that a request may repeat
STATUSES = {
    400: "The request is not complete.",
    401: "The token is missing or wrong.",
    404: "There is no such model.",
    408: "The body arrived too slowly.",
    413: "The body or the picture is too large, or the picture needs too many tiles.",
    415: "The body is not a picture in a known format.",
    422: "A setting is wrong, or the picture is damaged.",
    500: "The prediction failed.",
    503: "The server is busy or shuts down. Retry-After has the seconds after which to try again.",
    504: "The deadline passed.",
}


def add_errors(app: FastAPI) -> None:
    """Answer every exception of a route with one line of JSON."""
    app.add_exception_handler(RequestError, lambda _, error: _line(error))
    app.add_exception_handler(CondinstError, _package)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=GONE))
    app.add_exception_handler(
        Exception, lambda *_: _line(RequestError(500, "the server failed; its log has the cause"))
    )


def described() -> dict[int | str, dict[str, Any]]:
    """The errors of a prediction, for OpenAPI."""
    properties = {"error": {"type": "string"}, "hint": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["error"]}
    return {status: {"description": text, "content": {JSON: {"schema": schema}}} for status, text in STATUSES.items()}


def only_known(request: Request) -> None:
    """Raise RequestError (422) for a query parameter that the route does not have, or that is given twice."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            alike = get_close_matches(name, known, 1)
            hint = f"did you mean {alike[0]}?" if alike else f"the parameters are {', '.join(known)}"
            raise RequestError(422, f"unknown query parameter '{name:.50}'", hint)
        if count > 1 and name != REPEATED:
            raise RequestError(422, f"query parameter '{name}' is given {count} times")


def _line(error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return Response(error.content, error.status, dict(error.headers), JSON)


def _package(_: Request, error: Exception) -> Response:
    assert isinstance(error, CondinstError)
    return _line(refusal_of(error))


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    message = f"{first['loc'][-1]}: {first['msg']}, got {first.get('input')!r:.60}"
    return _line(RequestError(422, message.replace("Input should", "the value should")))


def _unknown(request: Request, error: Exception) -> Response:
    """404 for an unknown path and 405 for a wrong method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    line = error_line(message, "GET /docs lists what the server answers")
    return Response(line, error.status_code, dict(error.headers or {}), JSON)
