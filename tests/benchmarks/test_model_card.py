"""A shipped model's card says what was measured; docs/explanation/accuracy.md says what the cards say."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.accuracy import results
from benchmarks.cards import card, model_card
from benchmarks.cards import pictures as card_pictures
from benchmarks.facts import read_facts
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.errors import DataError, UsageError
from condinst.evaluation.analysis import Fit
from condinst.evaluation.evaluate import evaluate
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.recipes import load_recipe
from condinst.weights.folder import save_model

ROOT = Path(__file__).parent.parent.parent
NUCLEI = ROOT / "tests" / "data" / "nuclei"


def test_truth_scores_one_unless_the_limit_cuts_it() -> None:
    held_out = read_coco(NUCLEI / "val.json", NUCLEI / "images")
    most = max(len(sample.instances) for sample in held_out.samples)
    whole, cut = (model_card.best_possible(held_out, limit).segm.AP for limit in (most, 1))
    assert whole == pytest.approx(1)
    assert cut < 0.5


def test_ranking_and_choice(tmp_path: Path) -> None:
    pictures = card_pictures
    fits = []
    colours = (0, 0, 0, 10, 255, 255, 0, 0)
    found_of = [(1, 2), (9, 10), (1, 1), (4, 10), (0, 0), (8, 10), (0, 9), (10, 10)]
    for index, (grey, (found, objects)) in enumerate(zip(colours, found_of, strict=True)):
        Image.new("L", (4, 4), grey).save(tmp_path / f"{index}.png")
        fits.append(Fit(file=f"{index}.png", objects=objects, predicted=objects, matched50=found, matched75=found))
    ranked = pictures.rank(fits)
    assert [fit.file for fit in ranked] == [f"{n}.png" for n in (7, 2, 1, 5, 0, 3, 6)]  # ties: more objects first
    choice = pictures.choose(ranked, tmp_path)
    assert choice.successes == ("7.png", "5.png")  # 2 has too few objects, 1 the first's colour
    assert choice.failures == ("6.png", "3.png")  # none left has another colour: the next worst
    assert pictures.choose([], tmp_path) == pictures.Choice((), ())
    assert pictures.choose(ranked[:1], tmp_path) == pictures.Choice(("7.png",), ())


def test_licence_file(tmp_path: Path) -> None:
    fields = card.read_licence(NUCLEI / "LICENSE.txt")
    assert fields["licence"].startswith("CC0 1.0")
    assert fields["creator"].startswith("Carpenter lab")
    (tmp_path / "LICENSE.txt").write_text("Pictures\nSource repo : somewhere\n")
    with pytest.raises(DataError, match="no line 'Licence"):
        card.read_licence(tmp_path / "LICENSE.txt")


def test_time_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("iteration,total,images_per_second\n20,1,4\n30,1,2\n")
    assert card.training_minutes(log, 8) == pytest.approx((20 * 8 / 4 + 10 * 8 / 2) / 60)
    assert card.training_minutes(tmp_path / "none.csv", 8) is None


def test_no_path_of_this_machine() -> None:
    portable = card.portable
    assert portable("/home/someone/code/data/nuclei", Path("/home/someone/code/condinst")) == "../data/nuclei"
    assert portable("/scratch/weights.npz", Path("/home/someone/code/condinst")) == "weights.npz"
    assert portable("../data", Path("/home")) == "../data"


def test_bad_limits() -> None:
    assert model_card.read_limits("500,100") == [100, 500]
    for text in ("", "0,100", "many"):
        with pytest.raises(UsageError, match="--limits"):
            model_card.read_limits(text)


def tiny(threshold: float) -> Config:
    """The nuclei recipe, small; `threshold` 0.9 leaves a random model without detections."""
    small = ["model.fpn_channels=32", "model.head={convs: 1, channels: 32, prior: 0.3}", "input.shorter=128"]
    more = ["input.longer=256", "train.init=/a/machine/weights.npz", f"detect.score_threshold={threshold}"]
    return load_recipe("nuclei").with_overrides([*small, *more, "model.classes=[nucleus]"])


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.01, 0.9])
def test_from_run_to_results(threshold: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = tiny(threshold)
    torch.manual_seed(0)
    save_model(CondInst(config.model), config, tmp_path / "run")
    write = partial(
        model_card.main,
        "nuclei",
        Path("tests/data/nuclei"),
        tmp_path / "run",
        "20,50",
        hardware="a | test",
        root=tmp_path,
    )
    write(conf=0.1, minutes=3)
    folder = tmp_path / "src" / "condinst" / "zoo" / "nuclei"
    facts = json.loads((folder / "scores.json").read_text())
    again = evaluate(
        read_coco(NUCLEI / "val.json", NUCLEI / "images"), Predictor(folder, conf=None, max_detections=20), 20
    )
    assert facts["scores"]["20"] == json.loads(json.dumps(again.to_dict()))
    assert (facts["scores"]["50"]["detections"] == 0) == (threshold == 0.9)
    assert facts["file_bytes"] == (folder / "model.safetensors").stat().st_size
    assert {"licence", "box AP", "mask AP", "data", "command"} <= set(Config.from_yaml(folder / "config.yaml").about)
    assert "/a/machine" not in (folder / "config.yaml").read_text()
    card = (folder / "README.md").read_text()
    assert "Not a medical device" in card
    assert len(facts["shown"]) == 4
    for picture in (*facts["shown"], "nuclei.jpg"):
        content = (tmp_path / "docs" / "images" / picture).read_bytes()
        assert len(content) < (150_000 if picture in facts["shown"] else 600_000)
        Image.open(io.BytesIO(content)).load()
        assert picture == "nuclei.jpg" or f"docs/images/{picture}" in card

    scores = {"20": facts["scores"]["20"]}
    summary = {"recipe": "nuclei", "parameters": 7, "training_seconds": 120, "scores": scores}
    summary |= {"iterations": 5, "images_seen": 40, "condinst": scores, "condinst_seconds": 60}
    rival = tmp_path / "rival.json"
    rival.write_text(json.dumps(summary))
    with pytest.raises(DataError, match="leave out --keep-scores"):
        write(conf=0.3, rival=rival, keep_scores=True)
    write(conf=0.1, rival=rival, rival_command="train the rival", keep_scores=True)
    kept = json.loads((folder / "scores.json").read_text())
    assert all(kept[key] == facts[key] for key in ("scores", "ceiling", "fits", "shown"))
    assert "at 20 detections +0.000 mask AP" in (folder / "README.md").read_text()

    beside = tmp_path / "benchmarks" / "results" / "beside"
    beside.mkdir(parents=True)
    longer = {"iterations": 10, "seconds": 118, "scores": scores}
    pair = summary | {"data": "cells", "seed": 3, "command": "train the rival", "same_time": longer}
    (beside / "nuclei-3.json").write_text(json.dumps(pair))
    fill = results.main
    (tmp_path / "docs" / "explanation").mkdir()
    for page in ("accuracy.md", "tuning-diary.md"):
        shutil.copy(ROOT / "docs" / "explanation" / page, tmp_path / "docs" / "explanation")
    chosen = tmp_path / "benchmarks" / "results" / "backbones"
    chosen.mkdir()
    parts = {"AP": 0.4321, "AP50": 0.8, "AP75": 0.4}
    run = {"seconds": 9, "parameters": 5, "file_bytes": 7_000_000, "scores": {"bbox": parts, "segm": parts}}
    choice = {"data": "cells", "seed": 0, "command": "compare them", "images_seen": 40, "runs": {"lite0-fcos": run}}
    (chosen / "cells-0.json").write_text(json.dumps(choice))
    with pytest.raises(DataError, match=r"run python -m benchmarks\.accuracy\.results"):
        fill(root=tmp_path, check=True)
    fill(root=tmp_path)
    fill(root=tmp_path, check=True)
    diary = (tmp_path / "docs" / "explanation" / "tuning-diary.md").read_text()
    assert "| cells, 40 images | EfficientNet-Lite0 | FCOS's assigner | 1 | 7.0 MB | 0.432 |" in diary
    assert "compare them" in diary
    page = (tmp_path / "docs" / "explanation" / "accuracy.md").read_text()
    assert f"| {again.segm.AP:.3f} |" in page
    assert "a \\| test" in page
    assert "train the rival" in page
    assert "| cells | 1 | 20 | 40 images |" in page
    assert "| cells | 1 | 20 | the same time: 80 / 40 images |" in page


def test_rival_of_another_layout(tmp_path: Path) -> None:
    summary = {"recipe": "nuclei", "parameters": "seven", "training_seconds": 120, "scores": {}}
    (tmp_path / "scores.json").write_text(json.dumps(summary))
    with pytest.raises(DataError, match=r"scores\.json: parameters"):
        read_facts(tmp_path / "scores.json", card.Rival)


def test_results_are_up_to_date() -> None:
    line = [sys.executable, "-m", "benchmarks.accuracy.results", "--check"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
