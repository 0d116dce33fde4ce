"""Models from the Hugging Face hub and from https: into the cache once, checked, and every failure in one line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from condinst.errors import ModelError
from condinst.weights import obtain as module
from condinst.weights.catalogue import CATALOGUE, Checkpoint
from condinst.weights.fetch import fetch_url, torch_cache
from condinst.weights.names import Place, Repository
from condinst.weights.obtain import HubOptions, find_cached, obtain

Web = Any  # the server of tests/conftest.py
CONTENT = bytes(range(256)) * 500
CHECKPOINT = CATALOGUE["adelaidet/CondInst_MS_R_50_3x"]._replace(sha256=hashlib.sha256(CONTENT).hexdigest())
FILES = {CHECKPOINT.file: CONTENT, "other.pth": b"not wanted"}
MINE = Repository("me/cells")


def refusal(place: Place, options: HubOptions | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        obtain(place, options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def fetched(web: Web) -> list[str]:
    return [path for method, path, _ in web.asked if method == "GET" and "/resolve/" in path]


def test_published_file_is_fetched_once(hub: Web, capfd: pytest.CaptureFixture[str]) -> None:
    hub.publish(CHECKPOINT.place, FILES)
    assert find_cached(CHECKPOINT) is None
    path = obtain(CHECKPOINT)
    assert capfd.readouterr() == ("", "")  # a bar is for terminals
    assert path.read_bytes() == CONTENT
    assert find_cached(CHECKPOINT) == path
    assert [name.rpartition("/")[2] for name in fetched(hub)] == [CHECKPOINT.file]
    asked = len(hub.asked)
    assert obtain(CHECKPOINT) == path
    assert len(hub.asked) == asked


def test_broken_connection_is_taken_up_again(hub: Web, monkeypatch: Any) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.publish(CHECKPOINT.place, FILES)
    (path,) = (path for path in hub.files if path.endswith(CHECKPOINT.file))
    hub.cut[path] = 50_000
    assert obtain(CHECKPOINT).read_bytes() == CONTENT
    assert ("GET", path, "bytes=50000-") in hub.asked


def test_checksum_mismatch_leaves_nothing(hub: Web) -> None:
    hub.publish(CHECKPOINT.place, FILES)
    wrong = CHECKPOINT._replace(sha256="0123456789abcdef")
    line = refusal(wrong)
    for word in ("checksum mismatch", "give its path as --model", wrong.address, "0123456789abcdef"):
        assert word in line
    assert find_cached(wrong) is None
    assert obtain(CHECKPOINT).read_bytes() == CONTENT  # the next try fetches it anew


def test_cache_of_the_callers_choice_and_fetching_again(hub: Web, tmp_path: Path) -> None:
    hub.publish(CHECKPOINT.place, FILES)
    options = HubOptions(cache_dir=tmp_path)
    assert tmp_path in obtain(CHECKPOINT, options).parents
    obtain(CHECKPOINT, options._replace(force_download=True))
    assert len(fetched(hub)) == 2


@pytest.mark.parametrize("place", [CHECKPOINT, MINE])
@pytest.mark.parametrize("variable", ["CONDINST_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(place: Checkpoint | Repository, variable: str, hub: Web, monkeypatch: Any) -> None:
    files = {"config.yaml": b"", "model.safetensors": CONTENT}
    hub.publish(place.place, FILES) if isinstance(place, Checkpoint) else hub.publish(place.id, files)
    monkeypatch.setenv(variable, "1")
    line = refusal(place)
    name = place.file if isinstance(place, Checkpoint) else place.id
    for word in (name, module.constants.HF_HUB_CACHE, f"{variable} is set"):
        assert word in line
    monkeypatch.delenv(variable)
    path = obtain(place)
    asked = len(hub.asked)
    monkeypatch.setenv(variable, "true")
    assert obtain(place) == path
    assert len(hub.asked) == asked


def test_repository(hub: Web) -> None:
    hub.publish(MINE.id, {"config.yaml": b"about: {}", "model.safetensors": CONTENT, "notes.bin": b"not wanted"})
    path = obtain(MINE)
    assert sorted(file.name for file in path.parent.iterdir()) == ["config.yaml", "model.safetensors"]
    assert path.read_bytes() == CONTENT


def test_repository_without_our_files(hub: Web) -> None:
    hub.publish(MINE.id, {"config.yaml": b"about: {}", "pytorch_model.bin": b"x"})
    assert "holds no model.safetensors" in refusal(MINE)


@pytest.mark.parametrize("code", [401, 404])
def test_repository_that_is_not_there(code: int, hub: Web) -> None:
    path = f"/api/models/{MINE.id}/revision/main"
    hub.status[path], hub.headers[path] = code, {"X-Error-Code": "RepoNotFound"}
    line = refusal(MINE)
    for word in ("me/cells", "no such name, folder or file here", "no such repository", "hf auth login"):
        assert word in line


def test_repository_with_the_name_of_a_published_model_nearly(hub: Web) -> None:
    assert "did you mean 'adelaidet/CondInst_MS_R_50_3x'?" in refusal(Repository("adelaide/CondInst_MS_R_50_3x"))


def test_gated_repository_and_unknown_revision(hub: Web) -> None:
    path = f"/api/models/{MINE.id}/revision/main"
    hub.status[path], hub.headers[path] = 403, {"X-Error-Code": "GatedRepo"}
    assert "grants access" in refusal(MINE)
    path = f"/api/models/{MINE.id}/revision/v2"
    hub.status[path], hub.headers[path] = 404, {"X-Error-Code": "RevisionNotFound"}
    assert "no such revision" in refusal(MINE, HubOptions(revision="v2"))


def test_published_file_that_is_gone(hub: Web) -> None:
    hub.publish(CHECKPOINT.place, {"other.pth": b""})
    assert f"{CHECKPOINT.place} holds no {CHECKPOINT.file}" in refusal(CHECKPOINT)


def test_hub_out_of_reach_and_out_of_order(hub: Web, monkeypatch: Any) -> None:
    path = f"/api/models/{MINE.id}/revision/main"
    hub.status[path] = 500
    assert "was not reached" in refusal(MINE)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for place in (MINE, CHECKPOINT):
        line = refusal(place)
        for word in ("was not reached", "check the connection"):
            assert word in line


def test_full_disk(hub: Web, monkeypatch: Any) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module, "snapshot_download", full)
    line = refusal(CHECKPOINT)
    for word in (module.constants.HF_HUB_CACHE, "No space left on device", "HF_HOME"):
        assert word in line


def test_https_kind(tmp_path: Path, monkeypatch: Any) -> None:
    checkpoint = CATALOGUE["mmdetection/boxinst_r50_fpn_ms-90k_coco"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    assert checkpoint.address in refusal(checkpoint)
    assert find_cached(checkpoint) is None
    torch_cache().mkdir(parents=True)
    (torch_cache() / checkpoint.file).write_bytes(CONTENT)
    assert obtain(checkpoint) == find_cached(checkpoint) == torch_cache() / checkpoint.file


def test_what_is_here_is_taken_as_it_is(tmp_path: Path) -> None:
    assert obtain(tmp_path / "model.pth") == tmp_path / "model.pth"


# --- a model with a mirror


NOWHERE = "https://127.0.0.1:9"


def mirrored() -> Checkpoint:
    """RTMDet-Ins with an address of its own that does not answer."""
    checkpoint = CATALOGUE["mmdetection/rtmdet-ins_s_8xb32-300e_coco"]
    return checkpoint._replace(place=f"{NOWHERE}/rtmdet", sha256=hashlib.sha256(CONTENT).hexdigest())


def let_answer(web: Web, content: bytes, monkeypatch: Any) -> None:
    """Make the own address of `mirrored` answer."""
    web.files[f"/rtmdet/{mirrored().file}"] = content

    def fetch(url: str, sha256: str) -> Path:
        return fetch_url(url.replace(NOWHERE, web.address), sha256, schemes=("http",))

    monkeypatch.setattr(module, "fetch_url", fetch)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_the_mirror_is_asked_second(hub: Web, torch_home: Path) -> None:
    """Its file has no digest. The cached file needs neither place."""
    checkpoint = mirrored()
    (mirror,) = checkpoint.mirrors
    assert find_cached(checkpoint) is None
    hub.publish(mirror.place, {mirror.file: b"the same model in another file"})
    path = obtain(checkpoint)
    assert path.read_bytes() == b"the same model in another file"
    assert path.name == mirror.file
    asked = len(hub.asked)
    assert obtain(checkpoint) == find_cached(checkpoint) == path
    assert len(hub.asked) == asked
    assert not list(torch_home.glob("*.pth"))


def test_the_first_place_is_asked_first(hub: Web, torch_home: Path, monkeypatch: Any) -> None:
    checkpoint = mirrored()
    let_answer(hub, CONTENT, monkeypatch)
    assert obtain(checkpoint) == torch_home / checkpoint.file
    assert not any("Libre" in path for _, path, _ in hub.asked)


def test_another_file_at_the_first_place_is_not_passed_over(hub: Web, torch_home: Path, monkeypatch: Any) -> None:
    checkpoint = mirrored()
    let_answer(hub, b"changed", monkeypatch)
    hub.publish(checkpoint.mirrors[0].place, {checkpoint.mirrors[0].file: CONTENT})
    assert "checksum mismatch" in refusal(checkpoint)
    assert not (torch_home / checkpoint.file).exists()


@pytest.mark.parametrize("variable", ["", "CONDINST_OFFLINE"])
def test_no_place_has_it(variable: str, hub: Web, torch_home: Path, monkeypatch: Any) -> None:
    """All places in one line, and where a file that is fetched by hand goes."""
    if variable:
        monkeypatch.setenv(variable, "1")
    checkpoint = mirrored()
    line = refusal(checkpoint)
    target = torch_home / checkpoint.file
    for word in (
        "rtmdet-ins-s: no file from https://127.0.0.1:9/rtmdet/rtmdet-ins_s_8xb32",
        " or https://huggingface.co/LibreYOLO/LibreRTMDets-seg/resolve/main/LibreRTMDets-seg.pt (",
        f"save it as {target}, or give its path",
        f"{variable} is set" if variable else "no such repository",
    ):
        assert word in line
    assert len(line) < 800
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(CONTENT)
    asked = len(hub.asked)
    assert obtain(checkpoint) == find_cached(checkpoint) == target
    assert len(hub.asked) == asked
