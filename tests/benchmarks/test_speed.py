"""The speed benchmarks: the reference formulation gives what ours gives, clocks and memory tell the truth, and
docs/explanation/speed.md says what was measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle

from benchmarks.speed import measure, reference
from benchmarks.speed import training_step as step
from benchmarks.speed.models.busy import busy_config, busy_model, busy_picture
from benchmarks.speed.page import write as speed_page
from condinst.config import Config
from condinst.data.truth import draw_truth
from condinst.errors import CondinstError, DataError
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect
from condinst.inference.logits import draw_logits
from condinst.model.condinst import CondInst
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.predictor import Predictor

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "explanation" / "speed.md"
SIZE = (120, 200)  # of a small original
DETECTIONS = 20


@pytest.fixture(scope="module")
def busy() -> tuple[CondInst, Config]:
    """The benchmarks' R50-FPN, on small inputs."""
    config = busy_config(DETECTIONS).with_overrides(["input.shorter=160", "input.longer=320"])
    return busy_model(config), config


@pytest.fixture(scope="module")
def seen(busy: tuple[CondInst, Config]) -> tuple[Any, ...]:
    """A picture, what the network says of it, and the batch it was."""
    picture = busy_picture(*SIZE)
    predictor = reference.ReferencePredictor(*busy, "cpu")
    images = predictor.prepare(picture)
    with torch.inference_mode():
        return picture, predictor.model(images.tensor), images, predictor


def test_reference_detects_as_ours(busy: tuple[CondInst, Config], seen: tuple[Any, ...]) -> None:
    config, output = busy[1], seen[1]
    theirs = reference.detect(output.head, config.detect)
    (ours,) = detect(output, config.model, config.detect)
    assert len(ours.scores) == DETECTIONS
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.to(other.dtype), other, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("stride", [8, 4, 2])
def test_reference_mask_head_is_ours(stride: int) -> None:
    layout = reference.FilterLayout()
    generator = torch.Generator().manual_seed(stride)
    features = torch.randn(2, layout.features, 7, 9, generator=generator)
    filters = torch.randn(5, layout.count, generator=generator)
    images, places = torch.tensor([1, 0, 0, 1, 0]), 70 * torch.rand(5, 2, generator=generator)
    scales = torch.tensor([64.0, 128.0, 64.0, 1024.0, 256.0])
    inputs = (features, filters, images, places, scales, layout, "relative", stride)
    theirs = reference.mask_head(*inputs)
    assert theirs.shape == (5, 7 * 8 // stride, 9 * 8 // stride)
    torch.testing.assert_close(dynamic_mask_head(*inputs), theirs, rtol=1e-4, atol=1e-4)


def test_reference_draws_as_ours(busy: tuple[CondInst, Config], seen: tuple[Any, ...]) -> None:
    """The same masks and boxes but for single pixels, where two ways of adding float32 numbers part."""
    config, (_, output, images, _) = busy[1], seen
    found = detect(output, config.model, config.detect)
    with torch.inference_mode():
        theirs = reference.finish(output, found[0], images, config)
        (ours,) = assemble(output, found, images, draw_logits, config)
    torch.testing.assert_close(ours.boxes.xyxy, theirs.boxes)
    areas = oracle.area(theirs.rles)
    assert (areas > 0).sum() > DETECTIONS // 2
    for mine, other, area in zip(ours.masks.rle, theirs.rles, areas, strict=True):
        apart = oracle.area(oracle.merge([dict(mine), other])) - oracle.area(oracle.merge([dict(mine), other], True))
        assert apart <= max(2, area // 1000)


def test_reference_predictor_is_ours(busy: tuple[CondInst, Config], seen: tuple[Any, ...]) -> None:
    picture, _, _, predictor = seen
    theirs, ours = predictor(picture), Predictor.from_model(*busy, "cpu")(picture)
    assert set(predictor.times) == set(ours.speed)
    torch.testing.assert_close(ours.boxes.conf, theirs.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.masks.areas, oracle.area(theirs.rles), rtol=0.01, atol=3)


def test_reference_truth_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "SIZE", (200, 304))
    monkeypatch.setattr(step, "SIDES", (30, 50, 90, 140))
    for index in range(2):
        sample = step.polygon_sample(index)
        ours = draw_truth(sample, np.eye(2, 3), 200, 304, 4)
        theirs, bitmaps = reference.draw_truth(sample, (200, 304), (200, 304), 4)
        assert bitmaps.shape == (4, 200, 304)
        assert bitmaps.flatten(1).sum(1).min() > 300
        for name in ("boxes", "labels", "centroids", "semantic", "has_mask"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-3)
        masks = [unpack(truth.mask_pixels, truth.mask_places, torch.arange(4), (50, 76)) for truth in (ours, theirs)]
        assert torch.equal(*masks)


def test_both_training_steps_have_the_same_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[Any] = []
    monkeypatch.setattr(step, "SIZE", (128, 160))
    monkeypatch.setattr(step, "SIDES", (40, 60))
    computed = step.step_losses

    def keep(*inputs: Any) -> Any:
        losses.append(computed(*inputs))
        return losses[-1]

    monkeypatch.setattr(step, "step_losses", keep)
    for who in (step.REFERENCE, step.OURS):
        parts = step.contestant(who, "cpu")()
        assert list(parts) == ["truth and batch", "forward", "backward", "optimizer"]
        assert all(value > 0 for value in parts.values())
    assert losses[0]["mask"] > 0
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, rtol=1e-4, atol=1e-6)


def test_contestants_run_in_turn() -> None:
    ran: list[str] = []

    def work(name: str, seconds: float) -> Any:
        def run() -> dict[str, float]:
            ran.append(name)
            time.sleep(seconds)
            return {"part": float(len(ran))}

        return run

    found = measure.race({"a": work("a", 0.02), "b": work("b", 0.0)}, "race", 3, at=7)
    assert "".join(ran) == "ab" + "ababab"
    by_name = {(one.what, one.who): one for one in found}
    assert set(by_name) == {(what, who) for what in ("race", "race, part") for who in "ab"}
    assert by_name["race, part", "a"].values == (3, 5, 7)
    assert by_name["race, part", "b"].median == 6
    assert by_name["race", "a"].median >= 20 > by_name["race", "b"].median
    assert all(one.at == 7 for one in found)


CHILD = """
import os
import shutil
import time
import numpy as np
from benchmarks.speed.measure import KeepPages, run_benchmark

def contestant(device, megabytes):
    kept = np.ones(50_000_000 // 8)  # the "model", and twice as much thrown away
    np.ones(100_000_000 // 8)
    runs = []
    def work():
        assert len(kept)
        runs.append(np.ones(round(megabytes * 1e6) // 8).sum() if not runs else 0.0)
    return work

def sleeper(device, ms):
    runs = []
    def work():
        runs.append(time.sleep(ms / 1000))
        print("noise")
        return {"asleep": len(runs)}
    return work

def main(keep_pages: KeepPages = False) -> None:
    print({name: value for name, value in os.environ.items() if name.startswith("MALLOC_")})

if __name__ == "__main__":
    run_benchmark(main)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small benchmark of its own."""
    path = tmp_path / "child.py"
    path.write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return path


def test_peak_memory_is_that_of_the_run(child: Path) -> None:
    """200 MB in the first run, nothing in the second; neither what stays nor what loading threw away counts."""
    peak = measure.peak_memory("child", "contestant", "x", "me", "cpu", {"megabytes": 200}, processes=2)
    assert peak.what == "x, peak memory"
    assert [195 < value < 215 for value in peak.values] == [True, True]
    with pytest.raises(CondinstError, match="megabites"):
        measure.peak_memory("child", "contestant", "x", "me", "cpu", {"megabites": 200})


def test_contestants_apart_run_in_turn(child: Path) -> None:
    found = measure.race_apart("child", "sleeper", "nap", {"a": {"ms": 30}, "b": {"ms": 1}}, 3, "cpu")
    by_name = {(one.what, one.who): one for one in found}
    assert set(by_name) == {(what, who) for what in ("nap", "nap, asleep") for who in "ab"}
    assert by_name["nap", "a"].median >= 30 > by_name["nap", "b"].median >= 1
    assert by_name["nap, asleep", "a"].values == (2, 3, 4)  # the first run warms up
    with pytest.raises(CondinstError, match="megabites"):
        measure.race_apart("child", "sleeper", "nap", {"a": {"megabites": 30}}, 3, "cpu")


def test_benchmarks_run_with_the_stated_allocator(child: Path) -> None:
    found = [
        subprocess.run([sys.executable, str(child), *words], env=others, capture_output=True, text=True, check=True)
        for words in ([], ["--keep-pages"])
        for others in (dict(os.environ), os.environ | {"MALLOC_TOP_PAD_": "1"})
    ]
    kept = str(measure.KEPT_PAGES)
    assert [done.stdout.strip() for done in found] == ["{}", "{}", kept, kept]


def record_of(measure: ModuleType, name: str, rows: list[tuple[str, str, float, float]]) -> Any:
    """A record of (what, who, at, figure)."""
    made = tuple(
        measure.measurement(what, who, "MB" if what.endswith("memory") else "ms", [figure, figure], at)
        for what, who, at, figure in rows
    )
    here = measure.Machine(
        cpu="a CPU", cores=2, memory_gb=1, device="CPU", system="Linux", threads=2, allocator={}, versions={}
    )
    settings = {"800×1333": "one", "640×640": "other", "candidates": "some"}
    return measure.Record(
        benchmark=name, command=f"python {name}.py", device="cpu", machine=here, settings=settings, measurements=made
    )


def test_page_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (tmp_path / "docs" / "explanation").mkdir(parents=True)
    shutil.copy(PAGE, tmp_path / "docs" / "explanation")
    curves = [
        (f"{kind}, {axis}{what}", "exact", at, 5 + 2 * at)
        for kind in ("assembly", "pipeline")
        for axis in ("by instances", "by megapixels")
        for what in ("", ", peak memory")
        for at in (10.0, 100.0, 1000.0)
    ]
    whole = [(what, who, 0.0, figure) for what in ("640×384", "4000×3000") for who, figure in TIMES.items()]
    parts = [(f"640×384, {part}", "exact", 0.0, 10.0) for part in ("preprocess", "inference", "postprocess")]
    records = {"stages": whole + parts, "scaling": curves, "rivals": [("640×640", "exact", 0.0, 50.0)]}
    for name, rows in records.items():
        path = results / f"{name}-cpu.json"
        path.write_text(record_of(measure, name, rows).model_dump_json())
    kept = record_of(measure, "stages", [("640×384", "exact", 0.0, 50.0), ("640×384", "reference", 0.0, 100.0)])
    (results / "stages-cpu-kept-pages.json").write_text(kept.model_dump_json())
    speed_page.main(root=tmp_path)
    speed_page.main(root=tmp_path, check=True)
    text = (tmp_path / "docs" / "explanation" / "speed.md").read_text()
    assert "| End to end, exact, of the reference | ≤ 0.45 | 0.4 | met | 0.5 | **missed** by 11% |" in text
    assert "| End to end, fast, of the reference | ≤ 0.25 | 0.3 | **missed** by 20% | – |  |" in text
    assert "| End to end, compiled, of the reference | ≤ 0.25 | – |  | – |  |" in text
    assert "| assembly, by instances | exact | 10: 25 ms | 1000: 2,005 ms | 5 | 2 ms per instance | 1.000 |" in text
    assert text.count("*Not measured yet.*") == 5  # RTMDet-Ins, exported programs, memory, training, start-up
    for name in ("stages", "instances", "memory"):
        root = ET.fromstring((tmp_path / "docs" / "images" / "speed" / f"{name}.svg").read_text())
        assert len(root.findall("{http://www.w3.org/2000/svg}text")) > 5

    rows = [(what, who, at, 2 * figure if who == "fast" else figure) for what, who, at, figure in whole + parts]
    (results / "stages-cpu.json").write_text(record_of(measure, "stages", rows).model_dump_json())
    with pytest.raises(DataError, match=r"run python -m benchmarks\.speed\.page\.write"):
        speed_page.main(root=tmp_path, check=True)


TIMES = {"reference": 1000.0, "exact": 400.0, "fast": 300.0}


def test_page_is_up_to_date() -> None:
    line = [sys.executable, "-m", "benchmarks.speed.page.write", "--check"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
