"""`condinst val` prints what `evaluate` finds, and names what is wrong with its input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from condinst.data.formats.coco.read import read_coco
from condinst.evaluation.evaluate import evaluate
from condinst.predictor import Predictor

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
Run = Callable[..., Result]


def error_of(outcome: Result, code: int) -> str:
    assert outcome.exit_code == code, outcome.output
    assert "Traceback" not in outcome.output
    lines = [line for line in outcome.stderr.strip().splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_json_equals_evaluate(run: Run, model_folder: Path) -> None:
    words = ("val", "--model", model_folder, "--data", NUCLEI / "val.json", "--images", NUCLEI / "images", "--json")
    outcome = run(*words, "--device", "cpu", "--max-detections", 30)
    assert outcome.exit_code == 0, outcome.output
    printed = json.loads(outcome.stdout)
    predictor = Predictor(model_folder, device="cpu", conf=None, max_detections=30)
    data = read_coco(NUCLEI / "val.json", NUCLEI / "images")
    assert printed == json.loads(json.dumps(evaluate(data, predictor, 30).to_dict()))
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR"} <= printed["bbox"].keys() == printed["segm"].keys()
    assert printed["max_detections"] == 30
    assert printed["detections"] > 0


def test_tables_and_a_folder_as_data(run: Run, model_folder: Path) -> None:
    outcome = run("val", "--model", model_folder, "--data", NUCLEI)
    assert outcome.exit_code == 0, outcome.output
    for word in ("boxes", "masks", "AP50", "APs", "AR", "at most 100 per image"):
        assert word in outcome.stdout
    assert "–" in outcome.stdout  # no large nuclei in these images


def test_data_errors(run: Run, model_folder: Path, tmp_path: Path) -> None:
    def told(document: object) -> str:
        path = tmp_path / "val.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        words = ("val", "--model", model_folder, "--data", path, "--images", NUCLEI / "images")
        return error_of(run(*words), 3)

    good = json.loads((NUCLEI / "val.json").read_text())
    image, record = good["images"][0], good["annotations"][0]
    assert "not valid JSON" in told("{")
    assert "gone.png" in told(good | {"images": [image | {"file_name": "gone.png"}], "annotations": []})
    assert "category_id 99" in told(good | {"annotations": [record | {"category_id": 99}]})
    assert "image_id 999999" in told(good | {"annotations": [record | {"image_id": 999999}]})
    assert "says 9×" in told(good | {"images": [image | {"width": 9}], "annotations": []})
    two = [{"id": 1, "name": "cell"}, {"id": 2, "name": "fibre"}]
    own = record | {"category_id": 1, "image_id": image["id"]}
    assert "lacks the classes 'cell'" in told({"images": [image], "annotations": [own], "categories": two})


def test_missing_files(run: Run, model_folder: Path, tmp_path: Path) -> None:
    model = ("--model", model_folder)
    assert "no such file or folder" in error_of(run("val", *model, "--data", tmp_path / "no.json"), 3)
    assert "not a data set of a known format" in error_of(run("val", *model, "--data", tmp_path), 3)
    (tmp_path / "val.json").write_text("{}")
    assert "--images" in error_of(run("val", *model, "--data", tmp_path), 3)


def test_model_and_usage_errors(run: Run, tmp_path: Path) -> None:
    assert "no such shipped or published model" in error_of(run("val", "--model", tmp_path / "no", "--data", NUCLEI), 4)
    assert run("val").exit_code == 2
    assert run("val", "--data", NUCLEI, "--max-detections", 0).exit_code == 2


@pytest.mark.parametrize("limit", [1, 5])
def test_limits_below_cocos_own(run: Run, model_folder: Path, limit: int) -> None:
    words = ("--data", NUCLEI, "--max-detections", limit, "--json")
    scores = json.loads(run("val", "--model", model_folder, *words).stdout)
    assert scores["detections"] <= limit * scores["images"]
    assert scores["segm"]["AR"] == scores["segm"]["AR10"]


def test_analysis_is_one_key_more(run: Run, model_folder: Path) -> None:
    words = ("val", "--model", model_folder, "--data", NUCLEI, "--json")
    plain, more = (json.loads(run(*words, *added).stdout) for added in ((), ("--analysis",)))
    found = more.pop("analysis")
    assert more == plain
    assert found["kind"] == "segm"
    assert found["AP50"] == pytest.approx(plain["segm"]["AP50"])
    assert set(found["causes"]) == {"Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"}
    assert len(found["pictures"]) == plain["images"]


def test_analysis_in_words(run: Run, model_folder: Path) -> None:
    outcome = run("val", "--model", model_folder, "--data", NUCLEI, "--analysis")
    assert outcome.exit_code == 0, outcome.output
    for word in ("boundary AP", "calibration error", "Miss", "worst pictures"):
        assert word in outcome.stdout


def test_report(run: Run, model_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "a new folder" / "Zellkerne – Bericht.html"
    words = ("val", "--model", model_folder, "--data", NUCLEI, "--report", page)
    outcome = run(*words, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert "analysis" in json.loads(outcome.stdout)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert str(model_folder) in text
    assert text.count("data:image/jpeg") >= 3
    assert sorted(page.parent.iterdir()) == [page]


def test_report_of_no_pictures(run: Run, model_folder: Path, tmp_path: Path) -> None:
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}
    (tmp_path / "val.json").write_text(json.dumps(empty))
    words = ("--data", tmp_path / "val.json", "--images", NUCLEI / "images", "--report", tmp_path / "a.html")
    outcome = run("val", "--model", model_folder, *words)
    assert "no pictures to measure on" in error_of(outcome, 3)
    assert not (tmp_path / "a.html").exists()


def test_places_a_report_cannot_go(run: Run, model_folder: Path, tmp_path: Path) -> None:
    def told(page: Path, code: int) -> str:
        return error_of(run("val", "--model", model_folder, "--data", NUCLEI, "--report", page), code)

    assert "the ending must be .html" in told(tmp_path / "report.pdf", 2)
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in told(tmp_path / "folder.html", 2)
    (tmp_path / "file").write_text("")
    assert "choose another place" in told(tmp_path / "file" / "report.html", 1)
