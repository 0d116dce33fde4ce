"""Shared by all tests: caches of their own, files as other programs write them, and a web server on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from torch import Tensor

from condinst.model.condinst import CondInst
from condinst.weights.published.layout import Layout

State = dict[str, Tensor]
Written = Callable[..., State]
COMMIT = "c0" * 20


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the caches of whoever runs it, and none depends on a variable that forbids fetching."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        for name in ("CONDINST_OFFLINE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps one precision for a whole process."""
    from accelerate.state import AcceleratorState  # most tests do without

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def written() -> Written:
    """(layout, overrides, classes) → what its program would write for a model of these settings; all numbers are 0."""

    def write(layout: Layout, overrides: tuple[str, ...] = (), classes: tuple[str, ...] = ("a", "b")) -> State:
        config = layout.settings.with_overrides([f"model.classes=[{','.join(classes)}]", *overrides])
        with torch.device("meta"):
            own = CondInst(config.model).state_dict()
        state = {}
        for name, tensor in own.items():
            sources = layout.source_names(name)
            shape = tuple(tensor.shape) if len(sources) == 1 else ()
            # takes no memory, whatever its size
            state |= {source: torch.zeros((), dtype=tensor.dtype).expand(shape) for source in sources}
        return state

    return write


@dataclass
class Web:
    """A web server: what it has, how it misbehaves, and what it was asked.

    cut: path → bytes after which the next answer breaks off. status: path → answer with this code instead.
    ranges: whether it can send part of a file. asked: (method, path, Range header).
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    pushed: dict[str, bytes] = field(default_factory=dict)

    def publish(self, repository: str, files: dict[str, bytes]) -> None:
        """Serve `files` as a repository on the Hugging Face hub does."""
        tree = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        self.files[f"/api/models/{repository}/revision/main"] = json.dumps({"id": repository, "sha": COMMIT}).encode()
        for revision in ("main", COMMIT):  # versions of the client ask for one or the other
            self.files[f"/api/models/{repository}/tree/{revision}"] = json.dumps(tree).encode()
        for name, content in files.items():
            path = f"/{repository}/resolve/{COMMIT}/{name}"
            self.files[path] = content
            self.headers[path] = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}

    def answer_post(self, path: str, body: bytes) -> dict[str, Any]:
        """What the hub says to a push; the files of a commit go to `pushed`."""
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.pushed[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            repository = path.removeprefix("/api/models/").removesuffix("/commit/main")
            return {"commitUrl": f"{self.address}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.publish(repository, {})
            return {"url": f"{self.address}/{repository}"}
        return {}  # /api/validate-yaml: nothing to complain about


class Handler(BaseHTTPRequestHandler):
    """Answers for the `Web` of its server."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.web.asked.append(("POST", path, None))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self.read_chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send(200, json.dumps(self.web.answer_post(path, body)).encode(), {"Content-Type": "application/json"})

    def read_chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content

    def answer(self, body: bool) -> None:
        path, web = urlsplit(self.path).path, self.web
        wanted = self.headers.get("Range")
        web.asked.append((self.command, path, wanted))
        if path in web.status:
            self.send(web.status[path], b"", web.headers.get(path, {}), body)
        elif path not in web.files:
            missing = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
            self.send(404, b"", {"X-Error-Code": missing}, body)
        else:
            self.send_file(path, web.files[path], wanted, body)

    def send_file(self, path: str, content: bytes, wanted: str | None, body: bool) -> None:
        headers = dict(self.web.headers.get(path, {}))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.web.ranges else 0
        if start and start >= len(content):
            return self.send(416, b"", headers, body)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206 if start else 200, content[start:], headers, body, self.web.cut.pop(path, None) if body else None)

    def send(
        self, code: int, content: bytes, headers: dict[str, str], body: bool = True, cut: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on 127.0.0.1, empty."""
    content = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": content}))
    content.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield content
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Web:
    """The same server as the Hugging Face hub, with an empty cache on this side."""
    template = web.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", web.address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    return web
