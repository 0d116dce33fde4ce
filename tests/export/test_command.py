"""`condinst export`: what it writes and prints."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.config import Config
from condinst.export.card import with_section
from condinst.export.compare import own_pictures, prepare
from condinst.export.formats.example import make_example
from condinst.inference.full_size import Placement, place_full
from condinst.predictor import Predictor
from condinst.sources.read import read_source
from condinst.weights.card import is_own_card
from tests.export.conftest import Run, draw, export

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"
SECONDS = 120
ALONE = """
import runpy, sys
sys.modules |= dict.fromkeys(("condinst", "torch", "torchvision"))  # an import of these fails
runpy.run_path("example.py")
"""


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_in_the_folder(onnx_folder: Path, openvino_folder: Path, config: Config) -> None:
    words = ["README.md", "config.yaml", "example.py"]
    assert files(onnx_folder) == sorted([*words, "model.onnx"])
    assert files(openvino_folder) == sorted([*words, "model.bin", "model.xml"])
    for folder in (onnx_folder, openvino_folder):
        assert files(folder.parent) == [folder.name]  # nothing unfinished beside it
        assert Config.from_yaml(folder / "config.yaml") == config
        card = (folder / "README.md").read_bytes()
        assert is_own_card(card)
        assert "| `mask_logits` | (N, 20, H / 8, W / 8) float32 |" in card.decode()
        assert "| 2.png in a batch | 20 and 20 |" in card.decode()


def test_what_the_command_prints(model_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    done = export(model_folder, tmp_path / "out", pictures, "--format", "onnx", "--max-detections", "20")
    assert done.exit_code == 0
    steps = ["making model.onnx", "comparing with the model on 3 pictures", f"writing {tmp_path / 'out'}"]
    assert done.stderr.splitlines() == steps
    assert done.stdout.endswith(f"{tmp_path / 'out'}: written\n")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert [row[0] for row in rows] == [f"{name}.png{more}" for more in ("", " in a batch") for name in "012"]
    for _, counts, box, score, iou, cells in rows:
        assert counts == "20, 20"
        assert float(box) < 1e-3
        assert float(score) < 1e-4
        assert float(iou) > 0.99
        assert int(cells.split()[0]) <= 2


def test_two_programs_in_the_folder_of_the_model(model_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    """The weights, the settings and the text of the card stay; each program has one section."""
    place = tmp_path / "model"
    shutil.copytree(model_folder, place)
    before = {name: (place / name).read_bytes() for name in ("model.safetensors", "config.yaml")}
    assert export(place, place, pictures, "--format", "openvino").exit_code == 0
    card = place / "README.md"
    card.write_text(card.read_text().replace("## Use", "## My remark\n\nkeep me\n\n## Use"))
    assert export(place, place, pictures, "--format", "onnx").exit_code == 0
    assert export(place, place, pictures[:1], "--format", "openvino").exit_code == 0
    assert {name: (place / name).read_bytes() for name in before} == before
    text = card.read_text()
    assert "keep me" in text
    for name, pictured in (("model.onnx", 3), ("model.xml", 1)):
        _, heading, rest = text.partition(f"## Exported program: {name}\n")
        assert heading
        section = rest.partition("\n## ")[0]
        assert section.count(".png |") == pictured
        assert text.count(heading) == 1
    assert Predictor(place).mode == "openvino"


def test_the_sections_of_a_card() -> None:
    card = with_section("# Card\n\ntext\n", "## Exported program: a\n\none\n")
    assert card == "# Card\n\ntext\n\n## Exported program: a\n\none\n"
    card = with_section(card, "## Exported program: b\n\ntwo\n")
    card = with_section(card + "\n## Own\n\nthree\n", "## Exported program: b\n\nnew\n")
    assert card == (
        "# Card\n\ntext\n\n## Exported program: a\n\none\n\n## Exported program: b\n\nnew\n\n## Own\n\nthree\n"
    )


def test_info_of_a_program(onnx_folder: Path, openvino_folder: Path, both: Path, run: Run) -> None:
    for model, file, programs in (
        (onnx_folder, onnx_folder / "model.onnx", ["model.onnx"]),
        (openvino_folder / "model.xml", openvino_folder / "model.xml", ["model.xml"]),
        (both, both / "model.safetensors", ["model.xml"]),
    ):
        done = run("info", model, "--json")
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert document["classes"] == ["nucleus", "spore", "hypha"]
        assert (document["file"], document["programs"]) == (str(file), programs)
        parts = [file] + ([file.with_suffix(".bin")] if file.suffix == ".xml" else [])
        assert document["bytes"] == sum(part.stat().st_size for part in parts)
        text = run("info", model)
        assert text.exit_code == 0
        assert ", ".join(programs) in text.stdout


def test_predict_and_val_take_programs(
    onnx_folder: Path, openvino_folder: Path, model_folder: Path, run: Run, pictures: list[Path], tmp_path: Path
) -> None:
    """The same objects in results.json; a run goes on with the same program only; the same scores."""
    found: dict[str, Any] = {}
    models = {"torch": model_folder, "onnx": onnx_folder / "model.onnx", "xml": openvino_folder / "model.xml"}
    for name, model in models.items():
        done = run("predict", *pictures, "--model", model, "--out", tmp_path / name, "--conf", "0.3")
        assert done.exit_code == 0, done.output
        found[name] = json.loads((tmp_path / name / "results.json").read_text())["annotations"]
    assert len(found["torch"]) == 60
    for name in ("onnx", "xml"):
        assert [one["category_id"] for one in found[name]] == [one["category_id"] for one in found["torch"]]
        for one, other in zip(found[name], found["torch"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=2e-4)  # rounded to four places
            assert one["area"] == pytest.approx(other["area"], abs=4)
    words = ("predict", *pictures, "--out", tmp_path / "xml", "--conf", "0.3", "--resume")
    assert run(*words, "--model", models["xml"]).exit_code == 0
    again = run(*words, "--model", models["onnx"])
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    scores = []
    for model in models.values():
        done = run("val", "--data", NUCLEI / "val.json", "--model", model, "--json", "--max-detections", "20")
        assert done.exit_code == 0, done.output
        scores.append(json.loads(done.stdout)["segm"]["AR"])
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)


def test_compared_on_annotated_data(model_folder: Path, tmp_path: Path) -> None:
    """AP of the model and of the program; also in the card."""
    done = export(model_folder, tmp_path / "out", [NUCLEI / "val.json"], "--format", "openvino")
    assert done.exit_code == 0, done.output
    for name in ("the model", "model.xml", "model.xml with --mode fast"):
        assert f"measuring {name} on" in done.stderr
        assert name in done.stdout
        assert f"| {name} | 0." in (tmp_path / "out" / "README.md").read_text()


def test_compared_on_a_folder_of_pictures(model_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    done = export(model_folder, tmp_path / "out", [pictures[0].parent], "--format", "onnx")
    assert done.exit_code == 0, done.output
    assert "note: no AP, because" in done.stderr
    assert "comparing with the model on 3 pictures" in done.stderr


def test_the_pictures_of_the_package() -> None:
    assert [path.name for path in own_pictures()] == ["cells.jpg", "mushrooms.jpg", "street.jpg"]


@pytest.mark.parametrize("program", ["onnx", "openvino"])
def test_the_example_runs_without_condinst(
    program: str, request: pytest.FixtureRequest, model_folder: Path, tmp_path: Path
) -> None:
    """It prints the instances of the predictor, and its masks are nearly those of the predictor."""
    folder = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(f"{program}_folder"), folder)
    Image.fromarray(draw(110, 140, 3)).save(folder / "photo.png")
    command = [sys.executable, "-c", ALONE, "photo.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    expected = Predictor(model_folder, "cpu", conf=0.5, mode="exact")(folder / "photo.png")
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected) > 5
    ious = []
    for k, (line, one) in enumerate(zip(lines, expected, strict=True)):
        file, name, score = line.split()[:3]
        assert (file, name) == (f"mask_{k}.png", expected.names[int(one.boxes.cls[0])])
        assert float(score) == pytest.approx(float(one.boxes.conf[0]), abs=1e-3)
        mask, own = np.asarray(Image.open(folder / f"mask_{k}.png")), one.masks.data[0].numpy()
        assert mask.shape == own.shape == (110, 140)
        ious.append((mask & own).sum() / (mask | own).sum() if own.any() else float(not mask.any()))
    assert min(ious) > 0.97


class Recorder(ModuleType):
    """In place of onnxruntime: keeps the input of a program and finds nothing."""

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.images = np.zeros(0)

    def InferenceSession(self, path: str) -> Recorder:  # noqa: N802
        assert path == "model.onnx"
        return self

    def run(self, _: None, feed: dict[str, Any]) -> tuple[Any, ...]:
        self.images = feed["images"]
        return None, None, None, np.zeros(1, int), None


@pytest.mark.parametrize("fixed", [None, (128, 192), (192, 64)])
@pytest.mark.parametrize(
    "settings", [[], ["model.channel_order=BGR", "model.pixel_mean=[103.53, 116.28, 123.675]", "model.size_divisor=64"]]
)
def test_the_example_prepares_pictures_as_condinst_does(
    config: Config, fixed: tuple[int, int] | None, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = config.with_overrides(settings)
    (tmp_path / "example.py").write_text(make_example(changed, False, fixed))
    for size in ((110, 140), (300, 50), (3, 200)):
        picture = tmp_path / "photo.png"
        Image.fromarray(draw(*size)).save(picture)
        recorder = Recorder()
        monkeypatch.setitem(sys.modules, "onnxruntime", recorder)
        monkeypatch.setattr(sys, "argv", ["example.py", str(picture)])
        runpy.run_path(str(tmp_path / "example.py"))
        expected = prepare([read_source(picture)], changed, fixed).tensor
        assert recorder.images.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(recorder.images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [["model.mask_head.mask_out_stride=8", "detect.mask_threshold=0.4"],
                                      ["model.mask_head.mask_out_stride=2", "detect.mask_threshold=0.7"]])  # fmt: skip
def test_the_example_places_masks_as_condinst_does(
    config: Config, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other strides and thresholds than usual, against the definition of a mask."""
    changed = config.with_overrides(settings)
    (tmp_path / "example.py").write_text(make_example(changed, False, None))
    Image.fromarray(draw(150, 200)).save(tmp_path / "photo.png")  # shrunk to 96×128
    logits = torch.randn(1, 1, 12, 16, generator=torch.Generator().manual_seed(0)) * 3

    def answer(path: str) -> Any:
        assert path == "model.onnx"
        outputs = (np.zeros((1, 1, 4)), np.ones((1, 1)), np.zeros((1, 1), int), np.ones(1, int), logits.numpy())
        return SimpleNamespace(run=lambda names, feed: outputs)

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=answer))
    monkeypatch.setattr(sys, "argv", ["example.py", "photo.png"])
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")
    placement = Placement(changed.model.mask_head.mask_out_stride, (96, 128), (150, 200), changed.detect.mask_threshold)
    expected = place_full(logits[0], placement)[0].numpy()
    found = np.asarray(Image.open("mask_0.png"))
    assert 0.2 < expected.mean() < 0.8
    assert (found != expected).mean() < 1e-3
