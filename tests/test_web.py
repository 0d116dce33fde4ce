"""Files from addresses, against servers on this machine that misbehave."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from condinst.errors import DataError, hide_secrets, one_line
from condinst.web import SILENCE_SECONDS, Downloads, read_address

Answer = Callable[[socket.socket, str], None]
Serve = Callable[[Answer], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a server whose every connection is answered by a function of the socket and the request;
    it returns the address.
    """
    with ExitStack() as stack:

        def start(answer: Answer) -> str:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=run, args=(server, answer), daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        def run(server: socket.socket, answer: Answer) -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection, answer), daemon=True).start()

        def handle(connection: socket.socket, answer: Answer) -> None:
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                with suppress(OSError):
                    answer(connection, request.decode("latin-1"))

        yield start


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def moved(place: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def drip(before: bytes, drop: bytes) -> Answer:
    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(drop)
            time.sleep(0.05)

    return answer


def refusal(address: str, seconds: float = 5.0) -> str:
    with pytest.raises(DataError) as caught:
        read_address(address, seconds=seconds)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_content(serve: Serve) -> None:
    assert read_address(serve(lambda c, _: c.sendall(ok(b"abc"))) + "/ä b.png?x=1 2") == b"abc"


@pytest.mark.parametrize(
    "slow",
    [
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["status", "headers", "header", "body", "long body", "chunks", "continue"],
)
def test_one_deadline_for_all_of_a_download(serve: Serve, slow: Answer) -> None:
    start = time.monotonic()
    line = refusal(serve(slow), seconds=0.5)
    assert time.monotonic() - start < 4
    assert "0.5 s" in line or "HTTPException" in line  # http.client gives up after 100 headers


def test_downloads_end_from_another_thread(serve: Serve) -> None:
    """A thread that waits for a silent server goes on at once, and its later downloads do not begin."""
    downloads, reached, errors = Downloads(), threading.Event(), []

    def silent(connection: socket.socket, _: str) -> None:
        reached.set()
        time.sleep(20)

    address = serve(silent)

    def fetch() -> None:
        downloads.join()
        for _ in range(2):
            try:
                read_address(address)
            except DataError as error:
                errors.append(str(error))

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    assert reached.wait(10)
    start = time.monotonic()
    downloads.end()
    thread.join(SILENCE_SECONDS)
    assert time.monotonic() - start < SILENCE_SECONDS / 2
    assert len(errors) == 2
    assert downloads.closers == []


def test_the_deadline_holds_across_redirects(serve: Serve) -> None:
    def answer(connection: socket.socket, request: str) -> None:
        time.sleep(0.2)
        number = int(request.split()[1].lstrip("/") or 0)
        connection.sendall(moved(f"/{number + 1}"))

    assert "0.5 s" in refusal(serve(answer), seconds=0.5)


def test_too_much_and_too_little(serve: Serve) -> None:
    address = serve(lambda c, _: c.sendall(ok(b"a" * 1000)))
    with pytest.raises(DataError, match="more than"):
        read_address(address, most_bytes=999)
    short = serve(lambda c, _: c.sendall(ok(b"a" * 1000)[:-10]))
    assert "broke off after 990 of 1000 bytes" in refusal(short)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "FILE:///etc/passwd", "jar:x"])
def test_redirects_to_the_web_only(serve: Serve, place: str) -> None:
    assert "redirect" in refusal(serve(lambda c, _: c.sendall(moved(place)))).lower()


def test_a_redirect_loop_ends(serve: Serve) -> None:
    assert refusal(serve(lambda c, _: c.sendall(moved("/again"))))


def test_the_reason_cannot_control_the_terminal(serve: Serve) -> None:
    address = serve(lambda c, _: c.sendall(b"HTTP/1.1 404 \x1b[2J\x1b]0;owned\x07gone\r\nContent-Length: 0\r\n\r\n"))
    assert "HTTP 404" in refusal(address)
    garbage = serve(lambda c, _: c.sendall(b"\x1b[31mred\x1b[0m\r\n\r\n"))
    assert refusal(garbage)


def test_login_goes_as_basic_authentication_to_its_host_only(serve: Serve) -> None:
    requests: list[str] = []

    def other(connection: socket.socket, request: str) -> None:
        requests.append(request)
        connection.sendall(ok(b"elsewhere"))

    stranger = serve(other)

    def answer(connection: socket.socket, request: str) -> None:
        requests.append(request)
        path = request.split()[1]
        place = {"/a": "/b", "/b": f"{stranger}/c"}.get(path)
        connection.sendall(moved(place) if place else ok(b"here"))

    address = serve(answer).replace("://", "://us%40er:p%3Aass@") + "/a"
    assert read_address(address) == b"elsewhere"
    expected = f"Authorization: Basic {base64.b64encode(b'us@er:p:ass').decode()}"
    assert [expected in request for request in requests] == [True, True, False]
    assert all("ass@" not in request for request in requests)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter2@127.0.0.1:9/x.png",
        "http://hunter2@127.0.0.1:9/x.png",
        "http://me:hunter2@127.0.0.1:hunter2/x.png",
        "http://me:hun@hunter2@[bad/x.png",
        "http://127.0.0.1:9/x.png?access_token=hunter2&size=3",
        "http://127.0.0.1:9/x.png?hunter2",
        "http://127.0.0.1:9/x.png?X-Amz-Signature=hunter2",
        "http://127.0.0.1:9/x.png;jsessionid=hunter2",
        "http://127.0.0.1:9/x.png#access_token=hunter2",
        "http://127.0.0.1:9/x.png?q=hunter2&p=1",
    ],
)
def test_no_password_is_told(address: str) -> None:
    assert "hunter2" not in refusal(address).replace("127.0.0.1:hunter2", "")


def test_a_password_in_a_redirect_is_not_told(serve: Serve) -> None:
    assert "hunter2" not in refusal(serve(lambda c, _: c.sendall(moved("ftp://me:hunter2@host/x?key=hunter2"))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a.png", "https://host/a.png"),
        ("https://host/a.png?size=1&name=b.jpg", "https://host/a.png?size=1&name=b.jpg"),
        ("https://host/a?pin=1234&id=12", "https://host/a?pin=***&id=12"),
        ("read (https://u:p@host/a?sig=x), then", "read (https://host/a?sig=***), then"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("hf_abcdefghijklmnopqrstuvwx", "***"),
        ("mail me@host.org; a/b@c.png", "mail me@host.org; a/b@c.png"),
        ("images/https:/u:p@host/a.png?sig=x: no such file", "images/https:/host/a.png?sig=***: no such file"),
        ("C:/data/x.png, no address", "C:/data/x.png, no address"),
    ],
)
def test_hide_secrets(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert one_line(text) == shown
