"""Clients that misbehave: slow ones, half requests, early farewells, and bytes that are no request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.serving.client import Target

DRIBBLE = 0.2  # seconds between the bytes of a slow client
PAUSE = 0.05  # seconds between the attempts of a client
FAREWELL = 5.0  # seconds after a client left early, because the server may have begun to predict its picture


async def misbehave(target: Target, seconds: float) -> None:
    """Keep some clients of each kind busy. Raises nothing: a broken connection is what they deserve."""
    end = time.perf_counter() + seconds
    kinds: list[Callable[[], Awaitable[object]]] = [
        lambda: slow(target),
        lambda: target.leave(target.head + target.body[: len(target.body) // 2], 0.5),  # half a body
        lambda: leave_early(target),
        lambda: target.leave(target.head[:30], 0.5),  # half a head
        lambda: target.send(b"\x16\x03\x01 no HTTP\r\n\r\n"),
        lambda: target.send(target.head.replace(b"Content-Length: ", b"Content-Length: 9999")),  # too long
        lambda: Target(target.port, "/v1/predict", b"\x89PNG\r\n\x1a\n" + bytes(1000)).ask(),  # a damaged picture
    ]
    await asyncio.gather(*(_repeat(kind, end) for kind in kinds for _ in range(2)))


async def leave_early(target: Target) -> None:
    """Send a whole request, and leave before the answer."""
    await target.leave(target.head + target.body, 0.01)
    await asyncio.sleep(FAREWELL)


async def slow(target: Target) -> None:
    """Send a body byte by byte until the server gives up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write(target.head)
        for place in range(len(target.body)):
            writer.write(target.body[place : place + 1])
            await writer.drain()
            try:
                async with asyncio.timeout(DRIBBLE):
                    if await reader.read(100):
                        return
            except TimeoutError:
                continue
    finally:
        writer.close()


async def _repeat(kind: Callable[[], Awaitable[object]], end: float) -> None:
    while time.perf_counter() < end:
        try:
            await kind()
        except OSError:
            await asyncio.sleep(PAUSE)
        await asyncio.sleep(PAUSE)
