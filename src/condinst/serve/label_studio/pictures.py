"""Fetches the pictures of tasks: from the Label Studio server, from allowed servers, or from the task itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urljoin

from condinst.errors import DataError, UsageError
from condinst.serve.refusal import RequestError
from condinst.web import WEB, Origin, is_address, origin_of, read_address

SECONDS = 30.0  # for one picture


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of tasks may come from.

    address: of the Label Studio server, or "". key: its access token, sent to this server only. origins: further
    servers. most: largest picture in bytes.
    """

    address: str
    key: str
    origins: frozenset[Origin]
    most: int

    def fetch(self, place: str) -> bytes:
        """The encoded picture of a task. Raises DataError, RequestError (413, 422)."""
        if place.startswith("data:"):
            return _of_data(place)
        if place.startswith("/") and not place.startswith("//"):
            if not self.address:
                raise RequestError(422, f"{place:.200}: set the environment variable LABEL_STUDIO_URL to fetch it")
            place = urljoin(self.address, place)
        if not is_address(place):
            raise RequestError(422, f"{place:.200}: expected a path of Label Studio, an http(s) address or data:")
        return self._download(place)

    def _download(self, address: str) -> bytes:
        own = self.address and origin_of(self.address)
        allowed = self.origins | ({own} if own else set())
        try:
            origin = origin_of(address)
        except ValueError:
            raise RequestError(422, f"{address:.200}: the address is malformed") from None
        if origin not in allowed:
            remedy = f"--pictures-from {origin.scheme}://{origin.host} allows it"
            raise RequestError(422, f"{address:.200}: the server fetches from no such place; {remedy}")
        headers = {"Authorization": f"Token {self.key}"} if self.key and origin == own else {}
        return read_address(address, self.most, SECONDS, headers, allowed)


def server_of(text: str, option: str) -> Origin:
    """The server of a text such as https://pictures.example.org. Raises UsageError that names the option."""
    try:
        origin = origin_of(text)
    except ValueError:
        origin = Origin("", "", 0)
    if origin.scheme not in WEB or not origin.host:
        example = "https://pictures.example.org"
        raise UsageError(f"{option}: expected the address of a server, such as {example}, got '{text:.200}'")
    return origin


def _of_data(place: str) -> bytes:
    """The content of data:image/png;base64,…"""
    head, _, body = place.partition(",")
    try:
        content = unquote_to_bytes(body)
        return base64.b64decode(content, validate=True) if head.endswith(";base64") else content
    except ValueError:
        raise DataError(f"{head:.60}: the picture in the task is damaged") from None
