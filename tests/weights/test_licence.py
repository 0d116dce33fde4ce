"""Weights that are not for commercial use say so at their first use, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.weights.catalogue import CATALOGUE
from condinst.weights.folder import load_model, save_model
from condinst.weights.licence import announce_licence
from condinst.weights.published import adelaidet

RESTRICTED = Config(about=CATALOGUE["adelaidet/CondInst_MS_R_50_3x"].about)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def test_once_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    announce_licence(RESTRICTED, "file")
    assert capsys.readouterr() == (
        "",
        "licence of adelaidet/CondInst_MS_R_50_3x: non-commercial use only (from "
        "https://huggingface.co/tianzhi/AdelaiDet-CondInst/resolve/main/CondInst_MS_R_50_3x.pth)\n",
    )
    announce_licence(RESTRICTED, "file")
    assert capsys.readouterr().err == ""
    announce_licence(Config(about=CATALOGUE["adelaidet/CondInst_MS_R_50_1x"].about), "file")
    assert "CondInst_MS_R_50_1x" in capsys.readouterr().err


@pytest.mark.parametrize("licence", ["Apache-2.0", ""])
def test_others_say_nothing(licence: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce_licence(Config(about={"licence": licence}), "file")
    assert capsys.readouterr() == ("", "")
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_says_it_again(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("in the way")
    for _ in range(2):
        announce_licence(RESTRICTED, "file")
        assert "non-commercial" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    announce_licence(Config(about={"licence": "non-commercial\n\x1b[31m", "name": "a\x07"}), "file")
    assert capsys.readouterr().err == "licence of a\\x07: non-commercial \\x1b[31m\n"


def test_local_file_and_the_folder_made_of_it(
    written: Callable[..., dict[str, Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"model": written(adelaidet.FPN_LAYOUT)}, path)
    model, config = load_model(path)
    line = capsys.readouterr().err
    assert line.startswith(f"licence of {path}: ")
    assert "non-commercial" in line
    assert line.count("\n") == 1
    save_model(model, config, tmp_path / "made")
    load_model(tmp_path / "made")
    assert f"licence of {tmp_path / 'made'}" in capsys.readouterr().err
