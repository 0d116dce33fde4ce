"""Reads the picture of a request within limits of bytes and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from condinst.errors import one_line
from condinst.serve.refusal import RequestError

MIB = 2**20
FIELDS = ("image", "file")  # names of the part with the picture
PART_BYTES = 64 * 1024  # of a part that is no file
MULTIPART = "multipart/form-data"
RAW_NAME = "image"  # the name of a picture without a file name
NAME_LENGTH = 200
SHARED = 4  # largest bodies that may be in memory at a time


Read = TypeVar("Read")


class Upload(NamedTuple):
    """An encoded picture and its file name."""

    content: bytes
    name: str


@dataclass
class BodyReader:
    """Reads bodies of at most `most` bytes within `seconds`; all bodies together have at most SHARED · `most` bytes."""

    most: int
    seconds: float
    held: int = field(default=0, init=False)

    @asynccontextmanager
    async def picture(self, request: Request) -> AsyncIterator[Upload]:
        """Read the picture of a body: a multipart field `image` or `file`, or the whole body.

        The picture counts against the shared limit until the context ends. Raises RequestError, ClientDisconnect.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        async with self._limited(request) as limited:
            upload = await self._in_time(_of_form(limited) if kind == MULTIPART else _of_body(limited))
            if not upload.content:
                raise RequestError(400, "the body is empty; send a picture in the body or in the field 'image'")
            yield upload

    @asynccontextmanager
    async def whole(self, request: Request) -> AsyncIterator[bytes]:
        """Read a whole body, within the same limits."""
        async with self._limited(request) as limited:
            yield await self._in_time(limited.body())

    @asynccontextmanager
    async def _limited(self, request: Request) -> AsyncIterator[Request]:
        """The same request, with a body that ends in a RequestError at a limit."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.most:
            raise self._too_long()
        read = 0

        async def receive() -> Message:
            nonlocal read
            message = await request.receive()
            size = len(message.get("body", b""))
            read, self.held = read + size, self.held + size
            if read > self.most:
                raise self._too_long()
            if self.held > SHARED * self.most:
                raise RequestError(503, "the server holds too many pictures; try again later", retry_after=1)
            return message

        try:
            yield Request(request.scope, receive)
        finally:
            self.held -= read

    async def _in_time(self, reading: Awaitable[Read]) -> Read:
        try:
            async with asyncio.timeout(self.seconds):
                return await reading
        except TimeoutError:
            raise RequestError(408, f"the body did not arrive within {self.seconds:g} s") from None

    def _too_long(self) -> RequestError:
        return RequestError(413, f"the body is over the limit of {self.most / MIB:g} MiB; send a smaller picture")


async def _of_body(request: Request) -> Upload:
    return Upload(await request.body(), RAW_NAME)


async def _of_form(request: Request) -> Upload:
    try:
        async with request.form(max_files=1, max_fields=1, max_part_size=PART_BYTES) as form:
            return await _only_picture(form)
    except HTTPException as error:
        raise RequestError(400, f"the multipart body cannot be read ({error.detail})") from None
    except FormParserError:  # newer versions of starlette raise an HTTPException
        raise RequestError(400, "the multipart body cannot be read (invalid multipart data)") from None


async def _only_picture(form: FormData) -> Upload:
    names = [name for name, _ in form.multi_items()]
    other = next((name for name in names if name not in FIELDS), None)
    if other is not None:
        raise RequestError(422, f"unexpected multipart field '{other:.50}'; settings belong in the address: ?conf=0.5")
    if not names:
        raise RequestError(400, "the multipart body has no field 'image'")
    part = form[names[0]]
    if not isinstance(part, UploadFile):
        raise RequestError(422, f"the multipart field '{names[0]}' is no file; give it a file name")
    return Upload(await part.read(), file_name(part.filename or RAW_NAME))


def file_name(name: str) -> str:
    """The last part of a path that a client names, without control characters."""
    return one_line(PurePosixPath(name.replace("\\", "/")).name)[:NAME_LENGTH] or RAW_NAME
