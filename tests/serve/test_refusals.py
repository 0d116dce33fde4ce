"""Every bad request gets a status and one line of JSON."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from condinst.errors import CondinstError, DataError, ModelError, NoPictureError, TooLargeError, UsageError
from condinst.serve.refusal import error_line, refusal_of
from tests.serve.running import NUCLEI, Running

CONTENT = NUCLEI.read_bytes()


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header announces many pixels, and that has none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) for text in (header, b"IDAT")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def line_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.count("\n") == 1
    assert answer.text.endswith("\n")
    error: str = answer.json()["error"]
    assert error
    return error


@pytest.mark.parametrize(
    ("query", "content", "status", "words"),
    [
        ("", b"", 400, "the body is empty"),
        ("", b"no picture at all", 415, "not an image in one of the formats"),
        ("", b"version https://git-lfs.github.com/spec/v1\n", 415, "Git LFS pointer"),
        ("", CONTENT[:3000], 422, "damaged image"),
        ("", huge_png(60000, 50000), 413, "3,000,000,000 pixels is over the limit of 2,000,000"),
        ("", huge_png(0, 7), 415, "not an image"),
        ("model=nucleii", CONTENT, 404, "no model 'nucleii'; the models are nuclei, fungi"),
        ("conf=2", CONTENT, 422, "conf: the value should be less than or equal to 1, got '2'"),
        ("conf=nan", CONTENT, 422, "conf"),
        ("classes=cell", CONTENT, 422, "there is no class 'cell'; the classes are nucleus"),
        ("classes=1", CONTENT, 422, "there is no class 1"),
        ("format=xml", CONTENT, 422, "format"),
        ("size=-3", CONTENT, 422, "size: expected the shorter side"),
        ("size=0", CONTENT, 422, "size"),
        ("size=640,320", CONTENT, 422, "size: expected the shorter side in pixels, or (shorter, longer)"),
        ("size=640,9000", CONTENT, 422, "size: the longer side is at most 2560"),
        ("max_detections=0", CONTENT, 422, "max_detections"),
        ("max_detections=1.5", CONTENT, 422, "max_detections"),
        ("confidence=0.5", CONTENT, 422, "unknown query parameter 'confidence'"),
        ("conf=0.5&conf=0.7", CONTENT, 422, "query parameter 'conf' is given 2 times"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_one_line(client: httpx.Client, query: str, content: bytes, status: int, words: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=content)
    assert answer.status_code == status
    assert words in line_of(answer)


def test_a_mistyped_parameter_gets_a_hint(client: httpx.Client) -> None:
    assert client.post("/v1/predict?clases=nucleus", content=CONTENT).json()["hint"] == "did you mean classes?"


def test_control_characters_of_a_request_are_escaped(client: httpx.Client) -> None:
    assert "\x1b" not in client.post("/v1/predict?model=%1b[31m", content=CONTENT).json()["error"]


@pytest.mark.parametrize(
    ("files", "data", "status", "words"),
    [
        ([("picture", ("a.png", CONTENT))], {}, 422, "unexpected multipart field 'picture'"),
        ([("image", ("a.png", CONTENT)), ("image", ("b.png", CONTENT))], {}, 400, "Too many files"),
        ([("image", ("a.png", CONTENT))], {"conf": "0.5"}, 422, "settings belong in the address"),
        ([("image", (None, bytes(70_000)))], {}, 400, "Part exceeded maximum size"),
        ([("image", (None, b"short"))], {}, 422, "is no file"),
        ([("image", ("a.png", b""))], {}, 400, "the body is empty"),
    ],
)
def test_multipart(
    client: httpx.Client, files: list[tuple[str, tuple[str, bytes]]], data: dict[str, str], status: int, words: str
) -> None:
    answer = client.post("/v1/predict", files=files, data=data)
    assert (answer.status_code, words in line_of(answer)) == (status, True), answer.text


@pytest.mark.parametrize("body", [b"--x", b"", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n', b"\0" * 99])
def test_broken_multipart(client: httpx.Client, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
        answer = client.post("/v1/predict", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 400
        line_of(answer)


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert "GET /v1/nothing: Not Found" in line_of(client.get("/v1/nothing"))
    wrong = client.get("/v1/predict")
    assert wrong.status_code == 405
    line_of(wrong)


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Running) -> None:
    start = time.monotonic()
    answer = exchange(server, b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    assert time.monotonic() - start < 1.5
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"over the limit of 2 MiB" in answer


def test_a_streamed_body_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", content=(bytes(2**16) for _ in range(40)))
    assert answer.status_code == 413
    assert "over the limit of 2 MiB" in line_of(answer)


def test_slow_clients_are_refused(server: Running) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
    sent = [
        (head + b"Content-Length: 1000\r\n\r\nabc", b"HTTP/1.1 408 "),  # half a body
        (head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"HTTP/1.1 408 "),
        (head, b"HTTP/1.1 408 "),  # half a head
        (b"", b""),  # nothing
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /", b"HTTP/1.1 200 "),  # and half of the next head
        (b"no HTTP\r\n\r\n", b"HTTP/1.1 400 "),
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(len(sent)) as pool:
        answers = list(pool.map(lambda each: exchange(server, each[0]), sent))
    for (_, wanted), answer in zip(sent, answers, strict=True):
        assert answer.startswith(wanted), answer
        assert not wanted or answer.count(b'{"') >= 1
    assert b"HTTP/1.1 408 " in answers[4]
    assert 1.5 < time.monotonic() - start < 5  # --body-timeout 2


def exchange(server: Running, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes the connection or 6 s pass."""
    with socket.create_connection(("127.0.0.1", server.port), 6) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
                if b" 413 " in received and received.endswith(b"}\n"):
                    return received
        except TimeoutError:
            pytest.fail(f"the connection stays open after {received!r}")
        return received


def test_a_large_picture_of_few_bytes_is_refused_by_its_header(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("1", (3000, 3000)).save(file, "PNG")
    answer = client.post("/v1/predict", content=file.getvalue())
    assert answer.status_code == 413
    assert "3000×3000" in line_of(answer)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoPictureError("image bytes: holds a web page"), 415),
        (TooLargeError("image bytes: not enough memory for 5000×5000 pixels"), 413),
        (DataError("image bytes: damaged image"), 422),
        (UsageError("classes: there is no class 'a'"), 422),
        (ModelError("the model is gone"), 500),
    ],
)
def test_errors_of_the_package(error: CondinstError, status: int) -> None:
    refused = refusal_of(error)
    assert (refused.status, refused.message) == (status, str(error).removeprefix("image bytes: "))
    assert json.loads(refused.content) == {"error": refused.message}


def test_an_error_line_is_short_and_hides_secrets() -> None:
    line = error_line("https://a:b@example.org/\x1b[31m\n" + "x" * 1000)
    assert line.count(b"\n") == 1
    assert len(line) < 600
    assert b"\x1b" not in line
    assert b"a:b@" not in line
