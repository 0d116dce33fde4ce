"""The files of examples/deploy and the commands of docs/how-to/serve.md work with a real server."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from condinst.cli.main import app
from tests.serve.running import ROOT, Running

DEPLOY = ROOT / "examples" / "deploy"
PAGE = (ROOT / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
TOOLS = (ROOT / "docs" / "how-to" / "annotation-tools.md").read_text(encoding="utf-8")


def options_of_serve() -> set[str]:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts}


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "condinst.service", encoding="utf-8")
    return parser


def test_the_commands_have_options_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    lines = [
        ["serve", *compose["services"]["condinst"]["command"][1:]],
        shlex.split(unit()["Service"]["ExecStart"])[1:],
    ]
    lines += [
        shlex.split(line)[1:] for line in re.findall(r"^(?:\w+=\S+ )?(condinst serve.*)$", PAGE + TOOLS, re.MULTILINE)
    ]
    assert len(lines) >= 6
    for words in lines:
        assert words[0] == "serve"
        assert {word for word in words if word.startswith("--")} <= options_of_serve()


def test_compose_builds_with_the_extra_and_stops_in_time() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["condinst"]
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    (extra,) = service["build"]["args"].values()
    assert f'".${next(iter(service["build"]["args"]))}"' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"{extra.strip('[]')} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert int(service["stop_grace_period"].rstrip("s")) > 30 + 30  # --deadline and --body-timeout
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["command"][service["command"].index("--port") + 1] == "8000"
    assert "CONDINST_TOKEN" in service["environment"]


def test_the_health_check_of_compose(server: Running) -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["condinst"]
    kind, program, flag, code = service["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    for port, status in ((server.port, 0), (1, 1)):
        words = [sys.executable, flag, code.replace("8000", str(port))]
        assert subprocess.run(words, capture_output=True, check=False).returncode == status


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "condinst.service").read_text(encoding="utf-8")
    copy = tmp_path / "condinst.service"
    copy.write_text(text.replace("/opt/condinst/bin/condinst", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "condinst.service" in line] == []
    assert done.returncode == 0, done.stderr
    copy.write_text(copy.read_text().replace("MemoryMax=4G", "MemoryMax=much"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert "Invalid memory limit 'much'" in done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", sorted(set(re.findall(r"^curl .*$", PAGE, re.MULTILINE))))
def test_the_requests_of_the_page(server: Running, line: str, tmp_path: Path) -> None:
    command = line.replace("http://127.0.0.1:8000", server.address).replace(
        "overlay.png", str(tmp_path / "overlay.png")
    )
    words = [*shlex.split(command), "--fail", "--silent", "--show-error"]
    done = subprocess.run(words, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    if "-o" in words:
        assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
    elif "format=csv" in line:
        assert done.stdout.startswith(b"x1,y1,")
    else:
        assert json.loads(done.stdout)


def test_the_tables_of_the_page_are_complete(client: object) -> None:
    """Every parameter, status, format and address stands on the page."""
    document = client.get("/openapi.json").json()  # type: ignore[attr-defined]
    predict = document["paths"]["/v1/predict"]["post"]
    for parameter in predict["parameters"]:
        assert f"| `{parameter['name']}` |" in PAGE
    formats = next(each for each in predict["parameters"] if each["name"] == "format")["schema"]
    for name in formats.get("enum", document["components"]["schemas"].get("Format", {}).get("enum", [])):
        assert f"`{name}`" in PAGE
    for status in predict["responses"]:
        assert status == "200" or f"| {status} |" in PAGE
    for path in ("/v1/models", "/healthz", "/readyz", "/metrics"):
        assert f"`{path}`" in PAGE
    assert (
        options_of_serve() >= set(re.findall(r"^\| `(--[\w-]+)` \|", PAGE, re.MULTILINE)) >= {"--queue", "--deadline"}
    )
