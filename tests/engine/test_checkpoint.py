"""Checkpoints: there and back, one kept, a crash in the middle leaves the old one, damage is told in a line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condinst.engine import checkpoint
from condinst.engine.checkpoint import load_checkpoint, save_checkpoint
from condinst.engine.stop import list_checkpoints
from condinst.errors import CondinstError, ModelError


def make(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_there_and_back(tmp_path: Path) -> None:
    model, state = make(), {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}}
    path = save_checkpoint(tmp_path, 12, {"model": model, "average": make(1)}, state)
    loaded, average = make(2), make(3)
    found = load_checkpoint(path, {"model": loaded, "average": average})
    assert same(loaded, model)
    assert same(average, make(1))
    assert found == state | {"iteration": 12}
    assert list_checkpoints(tmp_path) == [path]


def test_the_newest_is_kept(tmp_path: Path) -> None:
    for iteration in (9, 10, 100):
        save_checkpoint(tmp_path, iteration, {"model": make()}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000100"]


def test_a_run_started_anew_keeps_its_own(tmp_path: Path) -> None:
    """A later iteration that another run left behind must not be resumed from."""
    save_checkpoint(tmp_path, 500, {"model": make(1)}, {})
    save_checkpoint(tmp_path, 10, {"model": make(2)}, {})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-00000010"]


@pytest.mark.parametrize("place", ["save", "torch.save", "os.replace"])
def test_a_crash_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    save_checkpoint(tmp_path, 1, {"model": make(1)}, {"optimizer": {}})

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint if "." not in place else getattr(checkpoint, place.split(".")[0]), place.split(".")[-1], crash
        )
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, {"model": make(2)}, {"optimizer": {}})
    (old,) = list_checkpoints(tmp_path)
    model = make()
    assert load_checkpoint(old, {"model": model})["iteration"] == 1
    assert same(model, make(1))
    assert save_checkpoint(tmp_path, 2, {"model": make(2)}, {}) == list_checkpoints(tmp_path)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000002"]


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"model": make()}, {"optimizer": {}})

    def refusal(**modules: nn.Module) -> str:
        with pytest.raises(ModelError, match="cannot be resumed") as caught:
            load_checkpoint(path, modules)
        line = str(caught.value)
        assert "\n" not in line
        assert str(path) in line
        return line

    refusal(model=nn.Conv2d(3, 4, 1))
    refusal(model=nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)))
    refusal(model=make(), average=make())
    whole = (path / "state.pt").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"words"):
        (path / "state.pt").write_bytes(damaged)
        refusal(model=make())
    (path / "state.pt").unlink()
    refusal(model=make())
    (path / "state.pt").write_bytes(whole)
    weights = (path / "model.safetensors").read_bytes()
    for damaged in (weights[: len(weights) // 2], b"", b"words"):
        (path / "model.safetensors").write_bytes(damaged)
        refusal(model=make())


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checksums.json"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str, where: float) -> None:
    state = {"optimizer": {"state": {0: {"average": torch.rand(100)}}}}
    path = save_checkpoint(tmp_path, 1, {"model": make()}, state)
    content = bytearray((path / name).read_bytes())
    content[int(where * len(content))] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be resumed") as caught:
        load_checkpoint(path, {"model": make()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state.pt": 3}', b"\xff\x00", b"[" * 100_000])
def test_damaged_checksums(tmp_path: Path, content: bytes) -> None:
    path = save_checkpoint(tmp_path, 1, {"model": make()}, {})
    (path / "checksums.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be resumed"):
        load_checkpoint(path, {"model": make()})


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checksums.json"])
def test_a_folder_in_a_files_place(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, 1, {"model": make()}, {})
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(ModelError, match="cannot be resumed"):
        load_checkpoint(path, {"model": make()})


def test_the_older_one_is_kept_where_the_new_one_reads_back_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save_checkpoint(tmp_path, 1, {"model": make(1)}, {})

    def lossy(path: Path, content: bytes) -> int:
        """A disk that loses the last byte and reports success."""
        with path.open("wb") as file:
            return file.write(bytes(content)[:-1]) + 1

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lossy)
        with pytest.raises(
            CondinstError, match=r"checkpoint-00000002: cannot be written \(model.safetensors is damaged"
        ):
            save_checkpoint(tmp_path, 2, {"model": make(2)}, {})
    assert list_checkpoints(tmp_path) == [old]
    assert load_checkpoint(old, {"model": make()})["iteration"] == 1


def test_the_advice_about_a_damaged_checkpoint_works(tmp_path: Path) -> None:
    """An older one is still there if the process was killed before it could remove it."""
    save_checkpoint(tmp_path / "aside", 1, {"model": make(1)}, {})
    newest = save_checkpoint(tmp_path, 2, {"model": make(2)}, {})
    (newest / "state.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"train again with another --out$"):
        load_checkpoint(newest, {"model": make()})
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match=f"--from {tmp_path} starts from its weights$"):
        load_checkpoint(newest, {"model": make()})
    (tmp_path / "aside" / "checkpoint-00000001").rename(tmp_path / "checkpoint-00000001")
    with pytest.raises(ModelError, match=r"remove it; --resume then continues from checkpoint-00000001$"):
        load_checkpoint(newest, {"model": make()})
    shutil.rmtree(newest)
    (left,) = list_checkpoints(tmp_path)
    assert load_checkpoint(left, {"model": make()})["iteration"] == 1


def test_a_users_files_in_a_checkpoint_stay(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"model": make()}, {})
    (path / "notes.txt").touch()
    (tmp_path / "checkpoint-mine0001").mkdir()
    (tmp_path / "checkpoint-00000007").touch()  # a file
    save_checkpoint(tmp_path, 2, {"model": make()}, {})
    assert sorted(file.name for file in path.iterdir()) == ["notes.txt"]
    assert list_checkpoints(tmp_path)[-1].name == "checkpoint-00000002"
    assert (tmp_path / "checkpoint-mine0001").is_dir()
    assert (tmp_path / "checkpoint-00000007").exists()
