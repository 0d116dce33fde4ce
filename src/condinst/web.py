"""Download files from http and https addresses within a time limit. No message contains a password.

`https://user:password@host/file` logs in with HTTP basic authentication. The login goes to that host only.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import IO, Any, NamedTuple, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit

from condinst.errors import DataError, first_line, hide_secrets, one_line

WEB = ("http", "https")
PICTURE_BYTES = 200 * 2**20
PICTURE_SECONDS = 60.0
SILENCE_SECONDS = 15.0  # longest wait for the next byte from the server
CHUNK = 2**16
_AGENT = "condinst"


class Origin(NamedTuple):
    """A server: scheme, host and port of an address."""

    scheme: str
    host: str
    port: int


def is_address(text: str) -> bool:
    """Return whether `text` is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def read_address(
    address: str,
    most_bytes: int | None = None,
    seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
    origins: Collection[Origin] | None = None,
) -> bytes:
    """Download the content of `address`.

    most_bytes: largest size, by default PICTURE_BYTES. seconds: time limit with headers and redirects, by default
    PICTURE_SECONDS. headers, origins: see `open_address`. Raises DataError for every failure, in one line without the
    password of the address.
    """
    most = PICTURE_BYTES if most_bytes is None else most_bytes
    within = PICTURE_SECONDS if seconds is None else seconds
    content = bytearray()
    try:
        with open_address(address, within, headers=headers, origins=origins) as response:
            while chunk := response.read1(CHUNK):
                content += chunk
                if len(content) > most:
                    raise OSError(f"more than {most / 2**20:.3g} MiB")
            length = response.headers["Content-Length"]
            if length and len(content) < int(length):
                raise OSError(f"the connection broke off after {len(content)} of {length} bytes")
    except (OSError, HTTPException, ValueError) as error:
        why = web_reason(error)
        raise DataError(f"{hide_secrets(address)}: cannot be fetched ({why}); download it and give the file") from None
    return bytes(content)


@contextmanager
def open_address(
    address: str,
    seconds: float,
    schemes: tuple[str, ...] = WEB,
    headers: Mapping[str, str] | None = None,
    silence: float | None = None,
    body_seconds: float = 0.0,
    origins: Collection[Origin] | None = None,
) -> Iterator[HTTPResponse]:
    """Send a GET request and yield the response. Read the response within the `with` block.

    seconds: time limit for connection, redirects, headers and body; body_seconds sets a separate limit for the body.
    schemes: allowed schemes of the address and of every redirect. silence: longest wait for a byte, in seconds.
    headers: of the first request; redirects do not copy them. origins: allowed servers of every redirect; None allows
    all. Raises OSError (TimeoutError at the deadline), HTTPException or ValueError.
    """
    wait = min(seconds, SILENCE_SECONDS if silence is None else silence)
    downloads = _DOWNLOADS.get() or Downloads()
    with _Deadline(seconds) as deadline, downloads.closing(deadline.end):
        opener = urllib.request.build_opener(_Redirects(schemes, origins), *_handlers(deadline))
        opener.addheaders = []
        try:
            with opener.open(_request(address, dict(headers or {}), schemes), timeout=wait) as response:
                if body_seconds:
                    deadline.restart(body_seconds)
                yield response
        except (OSError, HTTPException, ValueError):
            if deadline.over:
                deadline.fail()
            raise
        if deadline.over:  # without Content-Length, a closed connection ends the body without an error
            deadline.fail()


def web_reason(error: Exception) -> str:
    """Return a short reason for a failed download, without control characters."""
    if isinstance(error, HTTPError):
        return one_line(f"HTTP {error.code} {error.reason}").rstrip()
    if isinstance(error, ValueError | HTTPException) and not isinstance(error, OSError):
        said = type(error).__name__ if isinstance(error, HTTPException) else "the address is malformed"
        return said  # their messages may repeat the address or text from the server
    return one_line(first_line(error.reason if isinstance(error, URLError) else error))


class Downloads:
    """Ends the downloads of some threads at once, for example after Ctrl-C in the main thread.

    A thread whose downloads shall end calls `join` first. After `end`, each download of these threads raises OSError.
    """

    def __init__(self) -> None:
        self.ended = False
        self.lock = threading.Lock()
        self.closers: list[Callable[[], None]] = []

    def join(self) -> None:
        """Count the later downloads of this thread among these."""
        _DOWNLOADS.set(self)

    def end(self) -> None:
        """Close all connections."""
        with self.lock:
            self.ended = True
            closers = list(self.closers)
        for close in closers:
            close()

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Call `close` if the downloads end while the context is active, or have ended before."""
        with self.lock:
            self.closers.append(close)
        try:
            if self.ended:
                close()
            yield
        finally:
            with self.lock:
                self.closers.remove(close)


_DOWNLOADS: ContextVar[Downloads | None] = ContextVar("downloads", default=None)  # those that a thread has joined


class _Deadline:
    """Close all connections when the time limit is over or the downloads of this thread end."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.over = seconds, False
        self.sockets: list[socket.socket] = []
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def __enter__(self) -> _Deadline:
        self.restart(self.seconds)
        return self

    def restart(self, seconds: float) -> None:
        """Restart the time limit with `seconds`."""
        if self.timer:
            self.timer.cancel()
        self.seconds, self.started = seconds, time.monotonic()
        self.timer = threading.Timer(seconds, self.end)
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        if self.timer:
            self.timer.cancel()
        with self.lock:
            for sock in self.sockets:
                sock.close()
            self.sockets.clear()

    def connect(self, address: Any, timeout: Any, source_address: Any = None) -> socket.socket:
        """Like socket.create_connection. The deadline closes the connection even during a TLS handshake."""
        left = self.seconds - (time.monotonic() - self.started)
        if left <= 0:
            self.fail()
        sock = socket.create_connection(address, min(timeout, left), source_address)
        sock.settimeout(timeout)
        with self.lock:
            self.sockets.append(sock.dup())  # TLS detaches the file descriptor of the first socket
        if self.over:
            self.end()
        return sock

    def fail(self) -> NoReturn:
        raise TimeoutError(f"not finished after {self.seconds:g} s")

    def end(self) -> None:
        """Close the connections; reading from them raises OSError or ends."""
        self.over = True
        with self.lock:
            for sock in self.sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _handlers(deadline: _Deadline) -> tuple[urllib.request.BaseHandler, ...]:
    """Return urllib's handlers with connections that the deadline can close."""

    class Plain(HTTPConnection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._create_connection = deadline.connect

    class Tls(HTTPSConnection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._create_connection = deadline.connect

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Plain, req)

    class TlsHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Tls, req)

    return PlainHandler(), TlsHandler()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to allowed schemes and servers only. Send a login to the same host only."""

    def __init__(self, schemes: tuple[str, ...], origins: Collection[Origin] | None) -> None:
        self.schemes, self.origins = schemes, origins

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme.lower() not in self.schemes:
            raise URLError(f"it redirects to {one_line(newurl)}, not to {' or '.join(self.schemes)}")
        if self.origins is not None and origin_of(newurl) not in self.origins:
            raise URLError(f"it redirects to {one_line(newurl)}, which is not an allowed server")
        kept = {name: value for name, value in req.headers.items() if name.lower() == "range"}
        new = _request(newurl, kept, self.schemes)
        login = req.unredirected_hdrs.get("Authorization")
        if login and origin_of(req.full_url) == origin_of(newurl) and not new.has_header("Authorization"):
            new.add_unredirected_header("Authorization", login)
        return new


def _request(address: str, headers: dict[str, str], schemes: tuple[str, ...]) -> urllib.request.Request:
    """Make a request. The login of the address becomes a header that redirects do not copy."""
    parts = urlsplit(address)
    if parts.scheme.lower() not in schemes or not parts.hostname:
        raise ValueError("not a web address")
    login, _, host = parts.netloc.rpartition("@")
    path, query = (quote(part, safe="%/:;=&?@!$'()*+,~[]") for part in (parts.path, parts.query))  # blanks, umlauts
    request = urllib.request.Request(
        SplitResult(parts.scheme, host, path, query, "").geturl(), headers={"User-Agent": _AGENT, **headers}
    )
    if login:
        user, _, password = login.partition(":")
        token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def origin_of(address: str) -> Origin:
    """The server of an address. Raises ValueError for a malformed address."""
    parts = urlsplit(address)
    scheme = parts.scheme.lower()
    return Origin(scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(scheme, 0))
