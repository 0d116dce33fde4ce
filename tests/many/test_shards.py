"""Many pictures in several processes: each picture exactly once, whatever ends the run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import condinst
from condinst.cli.predict.shards import read_part
from condinst.errors import CondinstError, DataError, UsageError
from condinst.many import plan as plans
from condinst.many import workers
from condinst.many.plan import Slice
from condinst.many.shard import Done
from condinst.predictor import Predictor

PICTURE = Path("examples/images/nuclei/fluorescence.png")
OPTIONS = ("--size", "64", "--max-size", "64")


def make_pictures(folder: Path, count: int) -> Path:
    """Parts of a micrograph, and one file that is no picture."""
    folder.mkdir()
    whole = np.asarray(Image.open(PICTURE).convert("RGB"))
    for number in range(count):
        Image.fromarray(whole[number : number + 64, number : number + 64]).save(folder / f"cell_{number:03d}.png")
    (folder / f"cell_{count:03d}.png").write_bytes(b"no picture")
    return folder


def line(folder: Path, out: Path, *more: str) -> list[str]:
    given = [str(folder), "--workers", "2", "--shard-size", "3", "--out", str(out), *OPTIONS, *more]
    return [sys.executable, "-m", "condinst", "predict", *given]


def run(folder: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line(folder, out, *more), capture_output=True, text=True, check=False)


def read(out: Path) -> list[dict]:
    return [json.loads(one) for path in sorted(out.glob("results-*.jsonl")) for one in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("many") / "cells", 10)


def test_each_picture_has_the_result_that_it_has_alone(pictures: Path, tmp_path: Path) -> None:
    done = run(pictures, tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "1 of 11 pictures could not be used" in done.stderr
    found = read(tmp_path / "out")
    assert [one["source"] for one in found] == [str(path) for path in sorted(pictures.iterdir())]
    assert sorted(path.name for path in (tmp_path / "out").glob("results-*")) == [
        f"results-{number:05d}-of-00004.jsonl" for number in range(4)
    ]
    assert "left_out" in found[-1]
    predictor = Predictor("nuclei", shorter=64, longer=64)
    for one in found[:3]:
        alone = predictor(one["source"])
        assert [entry["segmentation"] for entry in one["annotations"]] == list(alone.masks.rle)
        assert (one["height"], one["width"]) == alone.orig_shape


def test_a_list_and_two_machines_share_the_work(pictures: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    names = [str(path) for path in sorted(pictures.glob("cell_00[0-7].png"))]
    listed.write_text("\n".join(names) + "\n")
    out = tmp_path / "out"
    for part in ("2/2", "1/2"):
        done = subprocess.run(
            [*line(Path(f"@{listed}"), out, "--shard", part)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert [one["source"] for one in read(out)] == names


def test_pages_and_what_is_no_picture(pictures: Path, tmp_path: Path) -> None:
    """Each page of a TIFF has a line, as has each line of a list: a folder, a film or a pattern is no picture."""
    cells = [Image.open(path).convert("L") for path in sorted(pictures.glob("cell_00[0-4].png"))]
    stack = tmp_path / "stack.tif"
    cells[0].save(stack, save_all=True, append_images=cells[1:])
    (tmp_path / "broken.tiff").write_bytes(stack.read_bytes()[:100])
    (tmp_path / "film.mp4").write_bytes(b"no film")
    places = [str(tmp_path / name) for name in ("broken.tiff", "film.mp4", "", "*.tif", "missing.tif")]
    places += ["s3://bucket/a.png", "rtsp://localhost/1"]
    (tmp_path / "list").write_text("\n".join([str(stack), *places]))
    assert run(Path(f"@{tmp_path}/list"), tmp_path / "out").returncode == 3
    found = read(tmp_path / "out")
    assert [(one["source"], one.get("page")) for one in found] == [
        *[(str(stack), page) for page in range(1, 6)], *[(place, None) for place in places]
    ]  # fmt: skip
    assert ["left_out" in one for one in found] == [False] * 5 + [True] * 7
    alone = Predictor("nuclei", shorter=64, longer=64)(condinst.Page(stack, 4))
    assert [entry["segmentation"] for entry in found[3]["annotations"]] == list(alone.masks.rle)
    assert run(stack, tmp_path / "folder").returncode == 0
    assert read(tmp_path / "folder") == found[:5]


@pytest.mark.slow
def test_after_kills_each_picture_is_there_once(pictures: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, then --resume; `benchmarks.survival.kill_shards` does it 50 times."""
    out, rng, kills = tmp_path / "out", random.Random(0), 0
    for _ in range(3):
        with subprocess.Popen(
            line(pictures, out, "--resume"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            time.sleep(rng.uniform(2.5, 7.0))
            kills += process.poll() is None
            with_group = os.getpgid(process.pid) if process.poll() is None else 0
            if with_group:
                os.killpg(with_group, signal.SIGKILL)
    done = run(pictures, out, "--resume")
    assert done.returncode in (0, 3), done.stderr
    assert [one["source"] for one in read(out)] == [str(path) for path in sorted(pictures.iterdir())]
    assert not list(out.glob(f".*{plans.PART}"))


def test_other_settings_and_other_files_are_refused(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "holds other files" in run(pictures, out).stderr
    (out / "mine.txt").unlink()
    plans.begin(out, ["a.png"], 3, {"conf": 0.5})
    assert "holds a run; add --resume" in run(pictures, out).stderr
    with pytest.raises(UsageError, match=r"the earlier run had other settings \(conf\)"):
        plans.read(out, {"conf": 0.4})
    (out / plans.PLAN).write_text("{")
    with pytest.raises(CondinstError, match="cannot be read as a plan"):
        plans.read(out, {})


def test_the_plan_reads_its_list_back(tmp_path: Path) -> None:
    names = [f"a folder/ä {number}\n.png" for number in range(7)]
    settings = {plans.FORMAT: "jsonl"}
    plan = plans.begin(tmp_path, iter(names), 3, settings)
    assert (plan.pictures, plan.shards) == (7, 3)
    assert [plan.sources(shard) for shard in range(3)] == [names[:3], names[3:6], names[6:]]
    assert plans.read(tmp_path, settings) == plan
    plan.path(1).write_text("")
    assert plan.waiting(Slice()) == [0, 2]
    assert plan.waiting(Slice(1, 2)) == []


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_a_part_of_no_machine(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        read_part(text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--save", "yolo"], "--save is not for --workers"),
        (["--json"], "--json is not for --workers"),
        (["--shard", "9/8"], "--shard 9/8: expected NUMBER/COUNT"),
    ],
)
def test_wrong_options_are_one_line(pictures: Path, tmp_path: Path, more: list[str], words: str) -> None:
    done = run(pictures, tmp_path / "out", *more)
    assert done.returncode not in (0, 1)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


class _Fatal:
    """In place of a predictor: a picture named `bad` ends the process as the kernel does when the memory is full."""

    def __init__(self, seen: Path) -> None:
        self.seen = seen


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_worker_that_dies_costs_its_shard_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plans.begin(tmp_path / "out", ["one", "bad", "two", "three", "once", "four"], 1, {})

    def predict(_: object, plan: plans.Plan, shard: int, batch: int, classes: object) -> Done:
        name = str(*plan.sources(shard))
        mark = tmp_path / name
        if name == "bad" or (name == "once" and not mark.exists()):
            mark.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        plan.path(shard).write_text(name)
        return Done(1, 0, 0)

    monkeypatch.setattr(workers, "predict_shard", predict)
    monkeypatch.setattr(workers, "_cores", lambda: [0, 1])
    job = workers.Job(plan, lambda _: pytest.fail("the forks share one model"), 1, None)
    ready: Any = _Fatal(tmp_path)
    told = sorted(workers.predict_shards(job, plan.waiting(Slice()), 2, ready))
    assert [one.shard for one in told if one.error] == [1]
    assert "its process ended 2 times, last by signal 9 (SIGKILL)" in told[1].error
    assert plan.waiting(Slice()) == [1]


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", tmp_path / "out")
    assert done.returncode == DataError("").exit_code
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
