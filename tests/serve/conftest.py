"""Real servers in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.serve.running import Running, start


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Start servers that end with the test."""
    started: list[Running] = []

    def begin(*arguments: str, **environment: str) -> Running:
        started.append(start(*arguments, **environment))
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
