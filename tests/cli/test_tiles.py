"""A large picture in tiles on the command line: kills, --resume, --overwrite and what is shown meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.cli.predict.printed import TileProgress
from condinst.cli.results.folder import TILES
from tests.cli.conftest import Run

WORDS = [sys.executable, "-m", "condinst", "predict"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "slide.png"
    values = np.random.default_rng(0).integers(0, 255, (640, 900, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.slow
def test_killed_inside_a_picture(model_folder: Path, picture: Path, tmp_path: Path, run: Run) -> None:
    """Each kill meets the picture a few tiles further; the end is that of a run that was left alone."""
    options = ["--model", str(model_folder), "--tile", "64", "--device", "cpu", "--overlay-format", "jpg"]
    alone = run("predict", picture, *options, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    out = tmp_path / "killed"
    seen = [0]
    for kill in (signal.SIGKILL, signal.SIGTERM):
        line = [*WORDS, str(picture), *options, "--out", str(out), *(["--resume"] if out.exists() else [])]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None and tiles(out) < seen[-1] + 20:
            time.sleep(0.01)
        process.send_signal(kill)
        process.wait()
        seen.append(tiles(out))
        assert seen[-1] >= seen[-2] + 20
    done = run("predict", picture, *options, "--out", out, "--resume")
    assert done.exit_code == 0, done.output
    assert not (out / TILES).exists()
    for name in ("results.json", "slide.jpg"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert len(json.loads((out / "results.json").read_text())["annotations"]) > 100


def tiles(out: Path) -> int:
    """The finished tiles in the folder of a run."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in (out / TILES).glob("*.jsonl"))


def test_overwrite_begins_anew(model_folder: Path, picture: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    options = ("--model", model_folder, "--device", "cpu", "--out", out)
    assert run("predict", picture, *options).exit_code == 0
    (out / TILES).mkdir()
    (out / TILES / "0123.jsonl").write_text("{}\n")
    assert run("predict", picture, *options, "--overwrite").exit_code == 0
    assert not (out / TILES).exists()


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gets a line each minute. Tiles that an earlier run finished do not count for the time left."""
    clock = iter([0.0, 30.0, 61.0, 90.0, 125.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    progress = TileProgress()
    for done in (40, 41, 42, 43, 44):
        progress("slide.tif", done, 62)
    assert capsys.readouterr().err.splitlines() == [
        "note: slide.tif: 42 of 62 tiles, 10 min left",
        "note: slide.tif: 44 of 62 tiles, 9 min left",
    ]
