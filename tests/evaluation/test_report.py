"""The report: a single file without external resources, with the measured numbers and the right pictures."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine.run_folder.curves import POINTS, draw_training, read_columns, thin
from condinst.errors import CondinstError
from condinst.evaluation.cases import truth_of
from condinst.evaluation.evaluate import evaluate
from condinst.evaluation.report import SHOWN, WORST, measure, write_report
from condinst.inference.result import Result
from condinst.ops.drawing.chart import shown

DATA = Path(__file__).parent.parent / "data"
LARGEST = 5_000_000  # bytes
NO_END = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order; keeps the text, the pictures and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[Image.Image] = []
        self.fetched: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in NO_END:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                self.keep(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # of SVG

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def keep(self, source: str) -> None:
        kind, _, content = source.partition(";base64,")
        if kind == "data:image/jpeg":
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        else:
            self.fetched.append(source)

    @property
    def text(self) -> str:
        return " ".join(self.words)


class Half:
    """Finds every second object of a data set, best first."""

    def __init__(self, data: AnnotatedData, step: int = 2) -> None:
        self.config = Config.from_dict({"detect": {"max_detections": 500}, "model": {"classes": data.classes}})
        self.data, self.step = data, step
        self.samples = {sample.path: sample for sample in data.samples}

    @property
    def names(self) -> dict[int, str]:
        return dict(enumerate(self.data.classes))

    def __call__(self, source: Path) -> Result:
        found = truth_of(self.samples[source], self.data.classes)[:: self.step]
        scores = torch.linspace(0.95, 0.6, len(found))
        return replace(found, boxes=replace(found.boxes, conf=scores))


def opened(name: str, classes: tuple[str, ...] = ()) -> AnnotatedData:
    data = read_coco(DATA / name / "val.json", DATA / name / "images")
    return replace(data, classes=classes or data.classes)


def written(folder: Path, data: AnnotatedData, predictor: Half, run: Path | None = None) -> Page:
    path = folder / "report.html"
    write_report(path, "A model", predictor.config, measure(data, predictor, 500), run and draw_training(run))
    assert path.stat().st_size < LARGEST
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.fetched
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", path.read_text(encoding="utf-8"))
    return page


@pytest.mark.parametrize("name", ["nuclei", "facade", "coco_mini"])
def test_what_was_measured(name: str, tmp_path: Path) -> None:
    data = opened(name)
    predictor = Half(data)
    page, scores = written(tmp_path, data, predictor), evaluate(data, predictor, 500)
    for value in (scores.segm.AP, scores.bbox.AP, scores.segm.AP75, scores.segm.APs, scores.bbox.ARm):
        assert shown(value) in page.words
    assert f"{scores.images} pictures, {scores.truths} annotated" in page.text
    for class_name, numbers in scores.segm_per_class.items():
        if len(data.classes) > 1 and numbers.AP > 0:
            assert {class_name, shown(numbers.AP)} <= set(page.words)
    for title in (
        "By size",
        "Precision and recall",
        "Confusion",
        "Causes of errors",
        "Calibration",
        "Worst pictures in detail",
    ):
        assert title in page.words
    assert page.text.index("mask AP") < page.text.index("Worst pictures") < page.text.index("Precision and recall")
    assert page.text.rindex("Settings") > page.text.index("Worst pictures in detail")
    small = page.text[: page.text.index("Accuracy")].count("objects found,")
    wrong = min(WORST, sum(len(sample.instances) > 1 for sample in data.samples))
    assert len(page.pictures) == small + 3 * wrong
    assert min(SHOWN, wrong) <= small <= 2 * SHOWN


def test_worst_pictures_show_errors_in_red(tmp_path: Path) -> None:
    data = opened("nuclei")
    page = written(tmp_path, data, Half(data))

    def red(picture: Image.Image) -> float:
        pixels = np.asarray(picture).astype(int)
        return float(((pixels[..., 0] > 150) & (pixels[..., 1:] < 100).all(axis=-1)).mean())

    small = page.text[: page.text.index("Accuracy")].count("objects found,")
    plain, truth, predicted = page.pictures[small : small + 3]
    assert red(truth) > red(plain) + 0.003  # every second is missed
    assert red(predicted) == pytest.approx(red(plain), abs=0.001)  # none is false


def test_nothing_wrong_and_nothing_found(tmp_path: Path) -> None:
    data = opened("nuclei")
    perfect = written(tmp_path, data, Half(data, 1))
    assert "No picture has an error." in perfect.words
    assert len(perfect.pictures) == SHOWN  # the best ones
    blind = Half(data)
    blind.samples = {path: replace(sample, instances=()) for path, sample in blind.samples.items()}
    nothing = written(tmp_path, data, blind)
    assert "0.000" in nothing.words
    assert "None of the predicted masks is correct at IoU 0.5." in nothing.words
    assert len(nothing.pictures) > 0


def test_boxes_where_there_are_no_masks(tmp_path: Path) -> None:
    data = opened("nuclei")
    boxed = tuple(
        replace(sample, instances=tuple(replace(one, shape=None) for one in sample.instances))
        for sample in data.samples
    )
    page = written(tmp_path, replace(data, samples=boxed), Half(data))
    assert "Mean over the classes, boxes" in page.words
    assert "only boxes are measured" in page.text
    assert len(page.pictures) > 0


def test_any_class_name(tmp_path: Path) -> None:
    names = tuple(f"<b onload='x'>{index}</b> & 細胞\u202e🦠" for index in range(10))
    page = written(tmp_path, opened("facade", names), Half(opened("facade", names)))
    assert names[-1] in page.words


def test_without_validation_data(tmp_path: Path) -> None:
    write_report(
        tmp_path / "a folder" / "report.html",
        "A run",
        Config(),
        training=draw_training(tmp_path),
        facts={"Model": "<mine>"},
    )
    page = Page((tmp_path / "a folder" / "report.html").read_text(encoding="utf-8"))
    assert "nothing was measured" in page.text
    assert "Model: <mine>." in page.words
    assert "AP" not in page.text.split("All settings")[0]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CondinstError, match=r"report\.html: cannot be written"):
        write_report(tmp_path / "report.html", "A run", Config())


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CondinstError, match=r"report\.html: cannot be written .*; choose another place"):
        write_report(tmp_path / "file" / "report.html", "A run", Config())


def log_of(folder: Path, rows: int) -> None:
    names = ["iteration", "classification", "mask", "semantic", "total", "grad_norm", "lr", "images_per_second"]
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[20 * row, 1 / row, 2 / row, 0, 3 / row, 5, 0.01, 7] for row in range(1, rows + 1)])
    (folder / "scores.csv").write_text("iteration,box_AP,mask_AP,mask_AP50\n100,0.1,0.2,0.3\n200,-1,0.25,0.4\n")


def test_curves_of_a_run(tmp_path: Path) -> None:
    log_of(tmp_path, 1000)
    text = "".join(str(part) for part in draw_training(tmp_path))
    titles = [title for title in ("Losses", "Learning rate", "Norm of the gradient", "On held-out") if title in text]
    assert len(titles) == 4
    for name in ("classification", "mask", "total", "mask AP", "box AP"):
        assert f">{name}</text>" in text
    assert "semantic" not in text  # always 0
    assert "images_per_second" not in text
    assert len(text) < 200_000


def test_columns_of_damaged_tables(tmp_path: Path) -> None:
    assert read_columns(tmp_path / "none.csv") == {}
    (tmp_path / "log.csv").write_bytes(b"iteration,total\n20,1.5\n40,nan\nx,3\n60,2.5,9\n80,\xff\n100")
    assert read_columns(tmp_path / "log.csv") == {"total": [(20.0, 1.5), (60.0, 2.5)]}
    assert draw_training(tmp_path / "no folder") == []


def test_long_curves_become_means() -> None:
    curve = [(float(index), float(index % 2)) for index in range(10 * POINTS)]
    short = thin(curve)
    assert len(short) == POINTS
    assert {y for _, y in short} == {0.5}
    assert thin(curve[:5]) == curve[:5]
    assert thin([]) == []
