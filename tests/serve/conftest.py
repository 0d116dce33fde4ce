"""Real servers in processes of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.serve.browser import Tab, browser
from tests.serve.running import Running, start
from tests.serve.studio import KEY, Studio, address


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Start servers that end with the test."""
    started: list[Running] = []

    def begin(*arguments: str, program: Path | None = None, **environment: str) -> Running:
        started.append(start(*arguments, program=program, **environment))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="session")
def studios() -> Iterator[list[ThreadingHTTPServer]]:
    """Label Studio, an allowed server, and one that is not allowed."""
    servers = []
    for _ in range(3):
        handler = type("Bound", (Studio,), {"asked": [], "elsewhere": ""})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    servers[0].RequestHandlerClass.elsewhere = address(servers[2])  # type: ignore[attr-defined]
    yield servers
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="session")
def server(studios: list[ThreadingHTTPServer]) -> Iterator[Running]:
    """A server with two models, for all tests that do not stop it."""
    running = start(
        "--model", "nuclei", "--model", "fungi=mushrooms", "--body-timeout", "2", "--max-body", "2",
        "--max-pixels", "2000000", "--pictures-from", address(studios[1]),
        LABEL_STUDIO_URL=address(studios[0]), LABEL_STUDIO_API_KEY=KEY,
    )  # fmt: skip
    assert running.port, running.lines
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("downloads")) as tab:
        yield tab


@pytest.fixture
def tab(chromium: Tab) -> Iterator[Tab]:
    """A browser without an open page. The page must not break its security policy or raise errors."""
    yield chromium
    log = chromium.driver.get_log("browser")
    messages = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
    chromium.run("localStorage.clear()")
    chromium.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.driver.get("about:blank")
    assert [message for message in messages if "the server responded with a status of" not in message] == []
