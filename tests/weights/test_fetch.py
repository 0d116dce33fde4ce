"""Files from an https address: whole or not at all, checked, resumed, and every failure in one line."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from condinst.errors import ModelError
from condinst.weights import fetch
from condinst.weights.fetch import digest, fetch_url

Web = Any  # the server of tests/conftest.py
CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "model-1.pth"
PATH = f"/weights/{NAME}"


@pytest.fixture
def address(web: Web) -> str:
    web.files[PATH] = CONTENT
    return f"{web.address}{PATH}"


def get(address: str, folder: Path, sha256: str = SHA256[:8]) -> Path:
    return fetch_url(address, sha256, folder, schemes=("http",))


def refusal(address: str, folder: Path, sha256: str = SHA256[:8]) -> str:
    with pytest.raises(ModelError) as caught:
        get(address, folder, sha256)
    line = str(caught.value)
    assert "\n" not in line
    assert not (folder / NAME).exists()
    return line


def test_fetched_once_into_torchs_cache(web: Web, address: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for _ in range(2):
        path = fetch_url(f"{address}?download=1", SHA256, schemes=("http",))
        assert path == Path(torch.hub.get_dir()) / "checkpoints" / NAME
        assert path.read_bytes() == CONTENT
    assert len(web.asked) == 1
    assert [file.name for file in path.parent.iterdir() if not file.name.startswith(".")] == [NAME]


def test_interrupted_download_goes_on_where_it_stopped(web: Web, address: str, tmp_path: Path) -> None:
    web.cut[PATH] = 100_000
    assert "broke off after 100000 of 300000 bytes" in refusal(address, tmp_path)
    assert get(address, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, _, wanted in web.asked] == [None, "bytes=100000-"]


def test_server_that_cannot_send_a_part(web: Web, address: str, tmp_path: Path) -> None:
    web.cut[PATH] = 100_000
    refusal(address, tmp_path)
    web.ranges = False
    assert get(address, tmp_path).read_bytes() == CONTENT


def test_part_that_is_already_whole(web: Web, address: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert get(address, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, _, wanted in web.asked] == ["bytes=300000-", None]


def test_part_without_a_checksum_is_not_trusted(web: Web, address: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"of an older file")
    assert get(address, tmp_path, "").read_bytes() == CONTENT
    assert [wanted for _, _, wanted in web.asked] == [None]


def test_wrong_part_of_the_right_length_is_thrown_away(web: Web, address: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert "checksum mismatch" in refusal(address, tmp_path)
    assert not (tmp_path / f"{NAME}.part").exists()
    assert get(address, tmp_path).read_bytes() == CONTENT


def test_checksum_mismatch(address: str, tmp_path: Path) -> None:
    line = refusal(address, tmp_path, "0123abcd")
    for word in (address, "0123abcd", SHA256[:16], "fetch it again"):
        assert word in line
    assert not (tmp_path / f"{NAME}.part").exists()


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_status(code: int, web: Web, address: str, tmp_path: Path) -> None:
    web.status[PATH] = code
    line = refusal(address, tmp_path)
    assert f"HTTP {code}" in line
    assert address in line
    assert "give its path" in line


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/{NAME}"
    assert "Connection refused" in refusal(address, tmp_path)


def test_silent_server(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(fetch, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "timed out" in refusal(f"http://127.0.0.1:{server.getsockname()[1]}/{NAME}", tmp_path)


def test_too_large(address: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(fetch, "LARGEST", 1000)
    assert "larger than any published file" in refusal(address, tmp_path)


def test_disk_full(address: str, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_copy", full)
    line = refusal(address, tmp_path)
    for word in (str(tmp_path), "No space left on device", "TORCH_HOME"):
        assert word in line


def test_cache_that_is_a_file(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be" in refusal(address, tmp_path / "file")


@pytest.mark.parametrize("url", ["http://127.0.0.1/x.pth", "file:///etc/passwd", "ftp://host/x.pth", "x.pth"])
def test_https_only(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="https alone"):
        fetch_url(url, "", tmp_path)


def test_no_redirection_to_another_kind_of_address(web: Web, address: str, tmp_path: Path) -> None:
    web.status["/moved.pth"] = 302
    web.headers["/moved.pth"] = {"Location": address}
    assert fetch_url(f"{web.address}/moved.pth", SHA256, tmp_path, schemes=("http",)).read_bytes() == CONTENT
    web.status[PATH], web.headers[PATH] = 302, {"Location": "https://127.0.0.1/x.pth"}
    assert "redirects to https://127.0.0.1/x.pth" in refusal(address, tmp_path)


@pytest.mark.parametrize("variable", ["CONDINST_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(variable: str, web: Web, address: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(variable, "Yes")
    line = refusal(address, tmp_path)
    for word in (NAME, str(tmp_path), f"{variable} is set"):
        assert word in line
    (tmp_path / NAME).write_bytes(CONTENT)
    assert get(address, tmp_path).read_bytes() == CONTENT
    assert not web.asked
    (tmp_path / NAME).unlink()
    monkeypatch.setenv(variable, "0")
    assert get(address, tmp_path).read_bytes() == CONTENT


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_two_at_once_fetch_once(web: Web, address: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: get(address, tmp_path), range(4)))
    assert paths == {tmp_path / NAME}
    assert len(web.asked) == 1
