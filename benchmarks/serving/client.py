"""A small HTTP client: one connection for each request, so that no request waits for another in the client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple

ANSWER_SECONDS = 120.0  # without an answer after these, a request counts as lost


class Outcome(NamedTuple):
    """What became of a request. status: of the answer, or 0 for a request without one."""

    status: int
    seconds: float


@dataclass(frozen=True)
class Target:
    """A server on this machine and a request for it."""

    port: int
    path: str
    body: bytes

    @property
    def head(self) -> bytes:
        """The head of the request."""
        lines = (
            f"POST {self.path} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode()

    async def ask(self) -> Outcome:
        """Send the request and wait for the whole answer."""
        return await self.send(self.head + self.body)

    async def send(self, content: bytes) -> Outcome:
        """Send bytes of any kind and wait for an answer."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._exchange(content)
        except (OSError, TimeoutError, ValueError, EOFError):
            status = 0
        return Outcome(status, time.perf_counter() - start)

    async def leave(self, content: bytes, seconds: float) -> None:
        """Send bytes, wait, and close the connection without reading."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(seconds)
        writer.transport.abort()

    async def _exchange(self, content: bytes) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            ]
            await reader.readexactly(lengths[0])
            return int(head.split()[1])
        finally:
            writer.close()
