"""From a request to an answer: read the picture, wait in the queue, predict, all before the deadline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request

from condinst.data.pictures.image import read_header
from condinst.data.transforms import input_shape
from condinst.inference.settings import sides, with_settings
from condinst.inference.tiles.choose import choose_tiling, tile_input
from condinst.serve.formats import Answer, Format, render
from condinst.serve.http.body import BodyReader
from condinst.serve.metrics import Metrics
from condinst.serve.models import Models
from condinst.serve.refusal import RequestError
from condinst.serve.work.jobs import Job, Kind, Queue, Settings
from condinst.serve.work.worker import Worker
from condinst.settings.prediction import InputConfig

SIDE_DIGITS = 6  # of a side in pixels
LARGER = 2  # times the longer side of the model's input that a request may ask for, for a picture or a tile


class Wanted(NamedTuple):
    """A request without its picture. size: of the resized picture."""

    model: str
    settings: Settings
    size: InputConfig


@dataclass(frozen=True)
class Service:
    """The parts of a server. deadline: seconds from a complete request to its answer. max_tiles: of a picture."""

    models: Models
    queue: Queue
    worker: Worker
    reader: BodyReader
    metrics: Metrics
    deadline: float
    max_tiles: int

    def wanted(self, model: str, settings: Settings) -> Wanted:
        """Check the settings of a request. Raises RequestError or UsageError."""
        config = self.models.predictors[model].config
        shorter, longer = sides(settings.size)
        most = LARGER * config.input.longer
        if longer is not None and longer > most:
            raise RequestError(422, f"size: the longer side is at most {most} for the model '{model}', got {longer}")
        detections = settings.max_detections
        resized = with_settings(
            config, settings.conf, shorter, longer, detections, iou=settings.iou, tile=settings.tile,
            overlap=settings.overlap,
        ).input  # fmt: skip
        scale = 0 if resized.seen is None or settings.tile is None else resized.seen.scale
        if isinstance(resized.tile, int) and scale * resized.tile > most:
            side = f"at most {int(most / scale)} pixels for the model '{model}'"
            raise RequestError(422, f"tile: {side}, which sees a tile at {scale:.2g} of its size; got {resized.tile}")
        return Wanted(model, settings, resized)

    async def predict(self, request: Request, wanted: Wanted, format: Format) -> Answer:
        """The answer to a request. Raises RequestError, DataError, and ClientDisconnect if the client has gone."""
        self.queue.check(wanted.model, wanted.size.shorter**2)
        async with self.reader.picture(request) as upload:
            ends = time.monotonic() + self.deadline
            kind = await self.kind(upload.content, wanted)
            notes: tuple[str, ...] = ()
            if kind.tiles > 1 and wanted.size.tile != "auto":  # of those that auto chose, the predictor tells
                notes = (f"condinst cuts it into {kind.tiles} tiles of {wanted.size.tile}×{wanted.size.tile} pixels",)
            made = partial(render, format=format, model=wanted.model, file_name=upload.name, notes=notes)
            return await self.answer(request, Job(kind, upload.content, made, ends))

    async def answer(self, request: Request, job: Job) -> Answer:
        """Wait for the worker. Raises RequestError (504) at the deadline, ClientDisconnect if the client has gone."""
        self.queue.put(job)
        answer = asyncio.wrap_future(job.answer)
        leaving = asyncio.ensure_future(_disconnected(request))
        either: set[asyncio.Future[Any]] = {answer, leaving}
        try:
            await asyncio.wait(either, timeout=job.ends - time.monotonic(), return_when="FIRST_COMPLETED")
            if answer.done():
                return answer.result()
            if leaving.done():
                raise ClientDisconnect
            raise RequestError(504, f"no answer within {self.deadline:g} s", retry_after=1)
        finally:
            leaving.cancel()
            answer.cancel()
            self.queue.drop(job)

    async def kind(self, content: bytes, wanted: Wanted) -> Kind:
        """The kind of a picture, from its header.

        Raises DataError for what is no picture, has too many pixels or needs too many tiles.
        """
        most = self.models.predictors[wanted.model].max_pixels
        header = await asyncio.to_thread(read_header, content, max_pixels=most)
        tiling = choose_tiling(header.height, header.width, wanted.size, self.max_tiles)
        if tiling is None:
            return Kind(wanted.model, wanted.settings, input_shape(header.height, header.width, wanted.size))
        tile = tiling.rows[0][0]
        shape = input_shape(tile.height, tile.width, tile_input(wanted.size, tiling))
        return Kind(wanted.model, wanted.settings, shape, tiling.total)


def parse_size(text: str) -> int | tuple[int, int]:
    """ "640" → 640, "640,1280" → (640, 1280). Raises RequestError (422)."""
    parts = [part.strip() for part in text.split(",")]
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() and len(part) <= SIDE_DIGITS for part in parts):
        raise RequestError(422, f"size: expected the shorter side in pixels or SHORTER,LONGER, got '{text:.60}'")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


async def _disconnected(request: Request) -> None:
    """Return when the client closes the connection. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
