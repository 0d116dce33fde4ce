"""Real servers in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.browser import Tab, browser
from tests.serve.running import Running, start


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
def server() -> Iterator[Running]:
    """A server with two models, for all tests that do not stop it."""
    running = start("--model", "nuclei", "--model", "fungi=mushrooms", "--body-timeout", "2", "--max-body", "2",
                    "--max-pixels", "2000000")  # fmt: skip
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
