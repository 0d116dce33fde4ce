"""How a server starts and ends: signals, exit status, and errors before it serves."""

from __future__ import annotations

import base64
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from condinst.cli.main import app
from tests.serve.running import NUCLEI, ROOT, Running

Serve = Callable[..., Running]


def run(*words: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["serve", *words], env=environment)
    return done.exit_code, done.stderr


def test_sigterm_answers_the_accepted_requests(serve: Serve) -> None:
    """The server of this test has a token."""
    server = serve(CONDINST_TOKEN="secret-of-the-test")
    content = NUCLEI.read_bytes()
    with server.client(headers={"Authorization": "Bearer secret-of-the-test"}) as client:
        check_token(server)

        def ask(_: int) -> int:
            return client.post("/v1/predict?size=480", content=content).status_code

        with ThreadPoolExecutor(7) as pool:
            asked = [pool.submit(ask, number) for number in range(6)]
            while client.get("/metrics").text.split("condinst_waiting_pictures ")[-1][:1] < "4":
                time.sleep(0.005)
            idle = httpx.Client(base_url=server.address)
            assert idle.get("/readyz").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            ready = idle.get("/readyz")
            late = client.post("/v1/predict", content=content)
            assert [one.result() for one in asked] == [200] * 6
    assert (ready.status_code, late.status_code) == (503, 503)
    assert ready.json() == late.json() == {"error": "the server is shutting down"}
    assert int(late.headers["retry-after"]) > 0
    assert server.process.wait(20) == 0
    assert len(server.lines) == 1, server.lines


def test_a_server_whose_model_died_answers_and_ends(serve: Serve) -> None:
    server = serve(program=ROOT / "benchmarks" / "serving" / "faulty.py")
    content = NUCLEI.read_bytes()
    with server.client() as client:
        failed = client.post("/v1/predict?conf=0.9", content=content)
        assert (failed.status_code, failed.text.count("\n")) == (500, 1)
        assert "the prediction failed (RuntimeError)" in failed.json()["error"]
        assert client.post("/v1/predict?size=64", content=content).status_code == 200
        assert client.get("/healthz").status_code == 200
        dead = client.post("/v1/predict?conf=0.1", content=content)
        assert dead.status_code == 500
    assert server.process.wait(20) == 1
    assert server.lines[-1] == "error: the server stopped: the model cannot predict any longer (RuntimeError)\n"


@pytest.mark.slow
def test_a_second_signal_ends_the_server_at_once(serve: Serve) -> None:
    server = serve("--deadline", "300")
    content = NUCLEI.read_bytes()

    def ask(_: int) -> int:
        try:
            return server.client().post("/v1/predict?size=1280,1280", content=content).status_code
        except httpx.HTTPError:
            return 0

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, number) for number in range(20)]
        while not any(one.done() for one in asked):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert server.process.wait(20) == 130
        assert time.monotonic() - start < 5  # all pictures take longer
        assert 0 in {one.result() for one in asked}
    assert server.lines[-1] == "interrupted\n"


def check_token(server: Running) -> None:
    with server.client() as client:
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        for wrong in ("", "Bearer", "Bearer secret", "Basic x", "Bearer secret-of-the-test2", "Basic " + "é"):
            headers = [(b"Authorization", wrong.encode())] if wrong else []
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/predict"), ("GET", "/metrics")):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"] == "the server needs a token"
        basic = base64.b64encode(b"anyone:secret-of-the-test").decode()
        assert client.get("/v1/models", headers={"Authorization": f"Basic {basic}"}).status_code == 200


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, printed = run("--port", port)
    assert code == 1
    assert printed.splitlines() == [
        f"error: 127.0.0.1:{port}: cannot serve there (Address already in use); try another --port"
    ]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--host", "0.0.0.0"], 2, "--host 0.0.0.0 is open to other computers; set the environment variable"),
        (["--host", "no.such.host.invalid", "--no-token"], 1, "no.such.host.invalid:8000: cannot serve there"),
        (["--host", "203.0.113.7", "--no-token"], 1, "203.0.113.7:8000: cannot serve there"),
        (["--port", "0", "--model", "no/such/model"], 4, "no/such/model"),
        (["--port", "0", "--model", "nuclei", "--model", "nuclei"], 2, "two models are named 'nuclei'"),
        (["--port", "0", "--model", "nuclei", "--device", "abacus"], 2, "device 'abacus' cannot be used"),
        (["--pictures-from", "example.org"], 2, "--pictures-from: expected the address of a server"),
    ],
)
def test_an_error_before_serving_is_one_line(words: list[str], code: int, line: str) -> None:
    found, printed = run(*words, CONDINST_TOKEN="")
    assert (found, printed.count("\n")) == (code, 1), printed
    assert printed.startswith("error: ")
    assert line in printed


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "python_multipart", "prometheus_client"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [each for each in sys.modules if each.startswith("condinst.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run() == (2, f"error: condinst serve needs {package}: pip install 'condinst[serve]'\n")


def test_a_model_has_the_name_of_its_folder_or_a_chosen_one(tmp_path: Path) -> None:
    from condinst.serve.models import name_of

    folder = tmp_path / "my_model"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    (tmp_path / "old.pth").touch()
    (tmp_path / "a=b").mkdir()
    assert name_of("nuclei") == ("nuclei", "nuclei")
    assert name_of(f"{folder}") == ("my_model", str(folder))
    assert name_of(f"{folder}/")[0] == "my_model"
    assert name_of(f"{folder}/model.safetensors")[0] == "my_model"
    assert name_of(f"{tmp_path}/old.pth")[0] == "old"
    assert name_of(f"{tmp_path}/a=b")[0] == "a=b"
    assert name_of(f"cells={folder}") == ("cells", str(folder))
    assert name_of("adelaidet/CondInst_MS_R_50_3x")[0] == "CondInst_MS_R_50_3x"
