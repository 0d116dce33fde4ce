"""The HTTP connection of uvicorn with limits on waiting: for a request, for the rest of it, and for a reader."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from condinst.serve.refusal import RequestError, error_line

CONNECTIONS = 512  # open at a time; a further one is refused
SECONDS = 30.0  # uvicorn has no limit of its own for these waits


class Connection(H11Protocol):
    """Closes a connection that makes the server wait for longer than `seconds`.

    The client must send the head of a request, take an answer, and send or give up the rest of a refused body.
    """

    seconds = SECONDS
    connections_at_most = CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.patience: asyncio.TimerHandle | None = None
        self.unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.connections_at_most:
            self.app = refuse_connection
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._arrived()  # the head is complete; the application limits the time of the body
        else:
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # the client may still send the body of a refused request, or has sent a part of the next one
        if self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unsent = self.transport.get_write_buffer_size()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._arrived()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with the line of JSON that every error has."""
        self.transport.write(_last_answer(400, msg))
        self.transport.close()

    def _wait(self) -> None:
        self.patience = self.patience or self.loop.call_later(self.seconds, self._give_up)

    def _arrived(self) -> None:
        if self.patience:
            self.patience.cancel()
        self.patience = None

    def _give_up(self) -> None:
        self.patience = None
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self.unsent:  # the client takes the answer slowly
            self.unsent = unsent
            self._wait()
        elif unsent:
            self.transport.abort()
        elif self.conn.trailing_data[0] and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(_last_answer(408, f"the request did not arrive within {self.seconds:g} s"))
            self.transport.close()
        else:
            self.transport.close()


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a connection over the limit."""
    error = RequestError(503, "the server has too many connections; try again later", retry_after=1)
    headers = {**error.headers, "Connection": "close"}
    await Response(error.content, error.status, headers, "application/json")(scope, receive, send)


def _last_answer(status: int, message: str) -> bytes:
    """A whole answer with an error, after which the connection closes."""
    line = error_line(message)
    reason = {400: "Bad Request", 408: "Request Timeout"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(line)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + line
