"""Middleware: the token of the server, and the headers that every answer has."""

from __future__ import annotations

import base64
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condinst.serve.refusal import error_line

OPEN = frozenset(
    {"/", "/healthz", "/readyz", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"}
)  # paths that need no token


class Access:
    """Answers 401 where a request lacks the token. Without a token, every request passes."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if not self.token or scope["path"] in OPEN or self._may_pass(Headers(scope=scope)):
            await self.app(scope, receive, protected)
            return
        line = error_line("the server needs a token", "send the header: Authorization: Bearer TOKEN")
        headers = {"WWW-Authenticate": 'Bearer realm="condinst"'}
        await Response(line, 401, headers, "application/json")(scope, receive, protected)

    def _may_pass(self, headers: Headers) -> bool:
        kind, _, value = headers.get("authorization", "").partition(" ")
        given = _password(value) if kind.lower() == "basic" else value if kind.lower() == "bearer" else ""
        return hmac.compare_digest(given.strip().encode(), self.token.encode())


def _password(value: str) -> str:
    """The password of HTTP basic authentication, for clients that know no bearer token."""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, or no UTF-8
        return ""
