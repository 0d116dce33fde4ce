"""condinst.predict, val, train and load_data, and how they type-check in a user's file."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import condinst
from condinst.data.formats.coco.read import read_coco
from condinst.errors import DataError, ModelError, UsageError
from condinst.evaluation.evaluate import evaluate
from condinst.predictor import Predictor

ROOT = Path(__file__).parent.parent
NUCLEI = ROOT / "tests" / "data" / "nuclei"
PICTURES = sorted((NUCLEI / "images").glob("*.png"))[:2]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photo.jpg and my_data, as the examples have them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(NUCLEI, tmp_path / "my_data")
    with Image.open(PICTURES[0]) as image:
        image.convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    return tmp_path


def example(function: Any) -> str:
    """The indented code of a docstring."""
    lines = (inspect.getdoc(function) or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def run(code: str) -> None:
    exec(compile(code, "example", "exec"), {})


def test_predict_as_its_docstring_says(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(example(condinst.predict))
    assert "objects; the best has a score of 0." in capsys.readouterr().out
    assert (desk / "overlay.jpg").is_file()


def test_predict_gives_what_a_predictor_gives() -> None:
    expected = Predictor("nuclei", "cpu")(PICTURES[0], max_detections=5)
    one = condinst.predict(PICTURES[0], device="cpu", max_detections=5)
    assert one.masks.rle == expected.masks.rle
    assert len(one) == 5
    both = condinst.predict([str(path) for path in PICTURES], "nuclei", device="cpu", max_detections=3, conf=0.6)
    assert [result.path for result in both] == PICTURES
    assert all(score >= 0.6 for result in both for score in result.conf.tolist())


def test_val_as_its_docstring_says(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(example(condinst.val))
    assert capsys.readouterr().out.startswith("0.")


def test_val_takes_data_that_is_read() -> None:
    data = condinst.load_data(str(NUCLEI), "val")
    data = replace(data, samples=data.samples[:2])
    expected = evaluate(data, Predictor("nuclei", "cpu", None, max_detections=50), 50)
    assert condinst.val(data, device="cpu", max_detections=50) == expected
    objects = sum(len(sample.instances) for sample in data.samples)
    assert repr(expected) == (
        f"Scores(mask AP {expected.segm.AP:.3f} AP50 {expected.segm.AP50:.3f} AP75 {expected.segm.AP75:.3f}, "
        f"box AP {expected.bbox.AP:.3f} AP50 {expected.bbox.AP50:.3f} AP75 {expected.bbox.AP75:.3f}, "
        f"2 images, {objects} objects, at most 50 detections)"
    )
    assert repr(data) == f"AnnotatedData({str(data.source)!r}, 2 pictures, {objects} objects, 1 class: nucleus)"


def test_load_data_as_its_docstring_says(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(example(condinst.load_data))
    data = read_coco(NUCLEI / "train.json", NUCLEI / "images")
    objects = sum(len(sample.instances) for sample in data.samples)
    assert capsys.readouterr().out == f"('nucleus',) {len(data.samples)} {objects}\n"


TINY = {
    "model.backbone.name": "mobilenetv2_035",
    "model.fpn_channels": 32,
    "model.head": {"convs": 1, "channels": 64},
    "model.mask_branch": {"convs": 1, "channels": 16},
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "iterations": 2, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


@pytest.mark.usefixtures("fresh_accelerator")
def test_train_returns_what_is_needed_next(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The docstring's example, with a tiny model."""
    code = example(condinst.train).replace('{"train.iterations": 1000}', repr(TINY))
    space: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), space)
    trained = space["trained"]
    assert trained.folder == Path("runs/my_model")
    assert trained.report.is_file()
    assert trained.scores.images == len(condinst.load_data("my_data", "val").samples)
    assert repr(trained).startswith(f"Trained('{trained.folder}', box AP ")
    assert space["result"].names == {0: "nucleus"}
    assert trained.config.train.iterations == 2
    captured = capsys.readouterr()
    assert str(trained.report) in captured.out
    with pytest.raises(UsageError, match="already holds a training run"):
        condinst.train("my_data", "runs/my_model")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: condinst.predict("nuclei"), DataError, "nuclei: no such file or folder; if it is a model"),
        (lambda: condinst.predict(PICTURES[0], "no/such/model"), ModelError, "no/such/model"),
        (lambda: condinst.predict(PICTURES[0], Predictor), UsageError, "model: expected a name, folder or file"),
        (lambda: condinst.predict(None), UsageError, "expected a path, folder"),
        (lambda: condinst.load_data("no/such/data"), DataError, "no/such/data: no such file or folder"),
        (lambda: condinst.load_data(["a"]), UsageError, "data: expected a path, got list"),
        (lambda: condinst.load_data(NUCLEI, "holiday"), DataError, "no holiday split"),
        (lambda: condinst.train(5), UsageError, "data: expected a path, got int"),
        (lambda: condinst.train("no/such/data"), DataError, "no/such/data: no such file or folder"),
        (lambda: condinst.train(NUCLEI, settings="train.lr=1"), UsageError, "settings: expected a dict"),
        (lambda: condinst.train(NUCLEI, settings={"train.speed": 1}), UsageError, "train.speed"),
        (lambda: condinst.train(NUCLEI, settings={"train.lr": object()}), UsageError, "settings: expected numbers"),
        (lambda: condinst.val(np.zeros(3)), UsageError, "data: expected a path, got ndarray"),
    ],
)
def test_one_line_for_a_bad_call(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as told:
        call()
    assert len(str(told.value).splitlines()) == 1


USER = """
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import condinst
from PIL import Image
from condinst import Predictor, Result

predictor = Predictor("nuclei", conf=0.4)
names: list[str] = ["a.png", "b.png"]
paths: list[Path] = [Path("a.png")]
arrays: list[npt.NDArray[np.uint8]] = [np.zeros((4, 4, 3), np.uint8)]
mixed = ["a.png", Path("b.png"), Image.new("RGB", (4, 4))]
one: Result = predictor("a.png")
many: list[Result] = predictor(names)
for sources in (paths, tuple(paths)):
    many = predictor(sources, conf=0.5, classes=["nucleus"], on_error="skip")
many = predictor(arrays)
many = predictor(mixed)
many = predictor([Path("a.png"), "b.png"])
many = predictor((name for name in names))
one = predictor(np.zeros((4, 4), np.float32), range=(0, 1))
one = predictor(b"", size=(800, 1333), max_detections=5)
one = condinst.predict(Path("a.png"), model="nuclei", device="cpu")
many = condinst.predict(names, conf=None)


def left_out(source: Any, error: condinst.CondinstError) -> None:
    print(source, error)


for one in predictor.stream(paths, batch=2, on_error=left_out):
    good = one.filter(conf=0.7, classes="nucleus")
    area: int = int(good.masks.areas.sum())
    corners: list[list[float]] = good.boxes.xyxy.tolist()
    xywh: npt.NDArray[Any] = good.numpy().boxes.xywh
    labels: npt.NDArray[np.uint16 | np.uint32] = good.label_image()
    text: str = good.to_json() + good.to_csv() + good.to_yolo()
number: float = condinst.val("my_data").segm.AP
count: int = len(condinst.load_data(Path("my_data")).samples)
many = predictor(paths[0])  # type: ignore[assignment]
predictor(5)  # type: ignore[call-overload]
"""


@pytest.mark.slow
def test_a_users_file_passes_mypy(tmp_path: Path) -> None:
    """Lists of one type, of several, tuples and generators; with the types that come back."""
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]  # it shares the package's cache
    done = subprocess.run(
        [*command, tmp_path / "user.py"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
