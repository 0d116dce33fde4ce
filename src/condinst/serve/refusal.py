"""Errors of a request: an HTTP status and one line."""

from __future__ import annotations

import json
from collections.abc import Mapping

from condinst.errors import CondinstError, DataError, NoPictureError, TooLargeError, UsageError, one_line

LONGEST = 500  # characters of a message


class RequestError(Exception):
    """The server refuses a request. The answer is one line of JSON: {"error": message, "hint": hint}.

    status: the HTTP status. retry_after: seconds after which the client may try again, or 0.
    """

    def __init__(self, status: int, message: str, hint: str = "", retry_after: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.retry_after = status, message, hint, retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}

    @property
    def content(self) -> bytes:
        """The body of the answer."""
        return error_line(self.message, self.hint)


def error_line(message: str, hint: str = "") -> bytes:
    """One line of JSON with an error, and a hint if there is one. Secrets and control characters are hidden."""
    told = {"error": one_line(message)[:LONGEST]} | ({"hint": one_line(hint)[:LONGEST]} if hint else {})
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def refusal_of(error: CondinstError) -> RequestError:
    """The answer to an error of the package: 413, 415 or 422 for a fault of the request, else 500."""
    statuses = {TooLargeError: 413, NoPictureError: 415, DataError: 422, UsageError: 422}
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 500)
    return RequestError(status, str(error).removeprefix("image bytes: "))
