"""Programs that cannot be used: each gives one line that says what is wrong and what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from condinst.config import Config
from condinst.errors import CondinstError, ModelError, UsageError
from condinst.predictor import Predictor
from tests.export.conftest import Run

AGAIN = "export the model again"


@pytest.fixture
def copy(onnx_folder: Path, openvino_folder: Path, tmp_path: Path) -> Path:
    """A folder with both programs, to be damaged."""
    place = tmp_path / "copy"
    shutil.copytree(onnx_folder, place)
    for name in ("model.xml", "model.bin"):
        shutil.copy(openvino_folder / name, place)
    return place


def refused(source: Path, kind: type[CondinstError] = ModelError) -> str:
    with pytest.raises(kind) as error:
        Predictor(source)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400 + 2 * len(str(source))
    return text


def truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def foreign_onnx(path: Path) -> None:
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "other", [value], [out])
    onnx.save(helper.make_model(graph), path)


def foreign_openvino(path: Path) -> None:
    value = openvino.opset13.parameter([1, 3, 64, 64])
    openvino.save_model(openvino.Model([openvino.opset13.relu(value)], [value]), path)


def change_note(path: Path, name: str, text: str) -> None:
    """Write another note into an ONNX program."""
    proto = onnx.load(path)
    notes = {entry.key: entry.value for entry in proto.metadata_props} | {name: text}
    onnx.helper.set_model_props(proto, notes)
    onnx.save(proto, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: truncate(path, 0.5),
        lambda path: truncate(path, 0.999),
        lambda path: path.write_bytes(b"<html>no such page</html>"),
        lambda path: path.write_bytes(bytes(range(256)) * 40),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_damaged_files(copy: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(copy / name)
    text = refused(copy / name)
    assert f"{name}: not a readable program (" in text
    assert AGAIN in text


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_an_empty_file(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"")
    assert "export the model" in refused(copy / name)


def test_openvino_without_its_weights(copy: Path) -> None:
    truncate(copy / "model.bin", 0.5)
    assert AGAIN in refused(copy / "model.xml")
    (copy / "model.bin").unlink()
    assert AGAIN in refused(copy / "model.xml")
    assert AGAIN in refused(copy)


def test_files_of_other_programs(copy: Path) -> None:
    foreign_onnx(copy / "model.onnx")
    foreign_openvino(copy / "model.xml")
    for name in ("model.onnx", "model.xml"):
        assert "condinst export did not make this program" in refused(copy / name)
    annotation = "<annotation><size><width>5</width></size></annotation>"
    (copy / "voc.xml").write_text(annotation)
    assert "not a readable program" in refused(copy / "voc.xml")


def test_a_program_of_another_version(copy: Path) -> None:
    change_note(copy / "model.onnx", "condinst_program", "2")
    assert "a program of format '2', and this condinst reads format 1; " + AGAIN in refused(copy / "model.onnx")
    xml = copy / "model.xml"
    text = xml.read_text()
    assert '<condinst_program value="1"' in text
    xml.write_text(text.replace('<condinst_program value="1"', '<condinst_program value="0.9\x1b[31m"'))
    found = refused(xml)
    assert "a program of format" in found or "not a readable program" in found
    assert "\x1b" not in found


def test_settings_of_another_model(copy: Path) -> None:
    config = Config.from_yaml(copy / "config.yaml").with_overrides(["model.classes=[a,b,c]"])
    (copy / "config.yaml").write_text(config.to_yaml())
    for name in ("model.onnx", "model.xml"):
        text = refused(copy / name)
        assert "made from a model with other settings than the config.yaml beside it; keep the files" in text


def test_settings_that_a_user_may_change(copy: Path) -> None:
    """Size of the input and thresholds are no part of the network."""
    config = Config.from_yaml(copy / "config.yaml").with_overrides(["input.shorter=64", "detect.score_threshold=0.2"])
    (copy / "config.yaml").write_text(config.to_yaml())
    for name in ("model.onnx", "model.xml"):
        assert Predictor(copy / name, conf=None).config.input.shorter == 64


def test_settings_that_are_missing_or_broken(copy: Path) -> None:
    (copy / "config.yaml").write_text("model: [\n")
    for source in (copy, copy / "model.onnx", copy / "model.xml"):
        assert "config.yaml" in refused(source)
    (copy / "config.yaml").unlink()
    for source in (copy, copy / "model.onnx", copy / "model.xml"):
        assert "config.yaml: missing" in refused(source)


def test_a_program_without_a_tensor(copy: Path) -> None:
    for name in ("model.onnx", "model.xml"):
        content = (copy / name).read_bytes()
        assert b"mask_features" in content
        (copy / name).write_bytes(content.replace(b"mask_features", b"mask_peatures"))
        assert AGAIN in refused(copy / name)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("model.onnx", "onnxruntime", "export"), ("model.onnx", "onnx", "export"), ("model.xml", "openvino", "openvino")],
)
def test_a_missing_package(copy: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    text = refused(copy / name, UsageError)
    assert text.endswith(f"{name}: needs the package {package}; install it: pip install 'condinst[{extra}]'")


def test_folders_that_a_predictor_cannot_run(copy: Path, tmp_path: Path) -> None:
    for name in ("model.pt2", "model.pte"):
        place = tmp_path / name.replace(".", "_")
        place.mkdir()
        shutil.copy(copy / "config.yaml", place)
        (place / name).touch()
        text = refused(place, UsageError)
        assert text.endswith(
            f"{name}: condinst does not run this kind of program; export the model to onnx or openvino"
        )
    (tmp_path / "empty").mkdir()
    assert "the folder holds no model.safetensors" in refused(tmp_path / "empty")


def test_the_command_line(copy: Path, run: Run, pictures: list[Path]) -> None:
    truncate(copy / "model.onnx", 0.5)
    for words in (
        ("predict", pictures[0], "--model", copy / "model.onnx", "--out", copy / "out"),
        ("info", copy / "model.onnx"),
    ):
        done = run(*words)
        assert done.exit_code == 4
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    done = run("predict", pictures[0], "--model", copy / "model.xml", "--device", "cuda", "--out", copy / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "an exported program runs on the CPU; leave --device out" in done.stderr
