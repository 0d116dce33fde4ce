"""Which program a predictor runs: by the model, the files in its folder, the mode and the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from condinst.errors import CondinstError, ModelError, UsageError
from condinst.export import choose as module
from condinst.export.choose import choose

Make = Callable[..., Path]
WEIGHTS, ONNX, OPENVINO, INT8 = "model.safetensors", "model.onnx", "model.xml", "int8.xml"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder with empty files of these names."""

    def folder(*names: str) -> Path:
        place = tmp_path / "place"
        place.mkdir(exist_ok=True)
        for name in ("config.yaml", *names):
            (place / name).touch()
        return place

    return folder


@pytest.mark.parametrize(
    ("names", "mode", "chosen", "found"),
    [
        ((WEIGHTS,), None, None, "exact"),
        ((WEIGHTS,), "fast", None, "fast"),
        ((WEIGHTS, ONNX), None, None, "exact"),  # ONNX Runtime is no faster for certain
        ((WEIGHTS, OPENVINO), None, OPENVINO, "openvino"),
        ((WEIGHTS, OPENVINO), "openvino", OPENVINO, "openvino"),
        ((WEIGHTS, OPENVINO), "exact", None, "exact"),
        ((WEIGHTS, OPENVINO), "fast", OPENVINO, "fast"),
        ((WEIGHTS, OPENVINO), "compiled", None, "compiled"),
        ((WEIGHTS, OPENVINO, INT8), None, OPENVINO, "openvino"),  # 8 bit only when asked for
        ((WEIGHTS, OPENVINO, INT8), "int8", INT8, "int8"),
        ((ONNX,), None, ONNX, "exact"),
        ((ONNX,), "exact", ONNX, "exact"),
        ((ONNX, OPENVINO), None, OPENVINO, "openvino"),
        ((OPENVINO,), None, OPENVINO, "openvino"),
        ((OPENVINO,), "exact", OPENVINO, "openvino"),
        ((OPENVINO,), "fast", OPENVINO, "fast"),
        ((OPENVINO, INT8), "int8", INT8, "int8"),
        ((INT8,), None, INT8, "int8"),
    ],
)
def test_a_folder(make: Make, names: tuple[str, ...], mode: str | None, chosen: str | None, found: str) -> None:
    place = make(*names)
    choice = choose(place, mode, "cpu")
    assert (choice.path, choice.mode) == (None if chosen is None else place / chosen, found)


@pytest.mark.parametrize("mode", [None, "exact", "fast", "compiled"])
def test_weights_run_in_pytorch(make: Make, mode: str | None) -> None:
    """The file of the weights is the way past a program in the folder."""
    place = make(WEIGHTS, OPENVINO, INT8)
    assert choose(place / WEIGHTS, mode, "cpu") == (None, mode or "exact")
    for other in ("openvino", "int8"):
        with pytest.raises(UsageError, match=f"mode '{other}' needs the model's folder, not its weights; give "):
            choose(place / WEIGHTS, other, "cpu")


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        (ONNX, None, "exact"),
        (ONNX, "exact", "exact"),
        (OPENVINO, None, "openvino"),
        (OPENVINO, "openvino", "openvino"),
        (OPENVINO, "exact", "openvino"),
        (OPENVINO, "fast", "fast"),
        (INT8, None, "int8"),
        (INT8, "int8", "int8"),
    ],
)
def test_a_file(make: Make, name: str, mode: str | None, found: str) -> None:
    path = make(WEIGHTS, name) / name
    for device in (None, "cpu"):
        assert choose(path, mode, device) == (path, found)
        assert choose(str(path), mode, device) == (path, found)


@pytest.mark.parametrize(
    ("names", "mode", "words"),
    [
        ((WEIGHTS,), "openvino", "needs an exported program in the model's folder; make one: condinst export"),
        ((WEIGHTS,), "int8", "--format openvino --int8 DATA"),
        ((WEIGHTS, ONNX), "openvino", "make one: condinst export"),
        ((WEIGHTS, OPENVINO), "int8", "make one: condinst export"),
        ((WEIGHTS, INT8), "openvino", "make one: condinst export"),
        ((ONNX,), "openvino", "does not fit this program; use exact"),
        ((ONNX,), "fast", "does not fit this program; use exact"),
        ((ONNX,), "int8", "needs an exported program"),
        ((OPENVINO,), "compiled", "use openvino or fast"),
        ((OPENVINO,), "int8", "needs an exported program"),
        ((INT8,), "exact", "use int8"),
        ((WEIGHTS,), "int4", "mode 'int4': expected one of exact, fast, compiled, openvino, int8"),
    ],
)
def test_a_mode_that_does_not_fit(make: Make, names: tuple[str, ...], mode: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        choose(make(*names), mode, "cpu")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_another_device(make: Make) -> None:
    place = make(WEIGHTS, OPENVINO)
    assert choose(place, None, "cuda") == (None, "exact")
    assert choose(place, "fast", "cuda") == (None, "fast")
    for source, mode in ((place, "openvino"), (place / OPENVINO, None)):
        with pytest.raises(UsageError, match="runs on the CPU; leave --device out"):
            choose(source, mode, "cuda")


def test_a_machine_with_cuda(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_cuda", lambda: True)
    place = make(WEIGHTS, OPENVINO)
    assert choose(place, None, None) == (None, "exact")
    assert choose(place, "openvino", None) == (place / OPENVINO, "openvino")
    assert choose(place, None, "cpu") == (place / OPENVINO, "openvino")


def test_without_openvino(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert choose(make(WEIGHTS, OPENVINO), None, "cpu") == (None, "exact")
    assert choose(make(WEIGHTS, OPENVINO), "fast", "cpu") == (None, "fast")
    place = make(WEIGHTS, OPENVINO, ONNX)
    (place / WEIGHTS).unlink()
    assert choose(place, None, "cpu") == (place / ONNX, "exact")
    (place / ONNX).unlink()
    assert choose(place, None, "cpu") == (place / OPENVINO, "openvino")  # opening it names the extra


def test_a_name_is_no_folder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for weights: `./nuclei` is the folder, and `nuclei` the shipped model."""
    place = make(OPENVINO)
    monkeypatch.chdir(place.parent)
    for name in ("nuclei", "adelaidet/CondInst_MS_R_50_1x"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(place)
        assert choose(name, None, "cpu") == (None, "exact")
        assert choose(f"./{name}", None, "cpu").path == Path(name) / OPENVINO
        with pytest.raises(UsageError, match=r"condinst export --model .* --out my_model"):
            choose(name, "openvino", "cpu")


@pytest.mark.parametrize("name", ["none.onnx", "none.xml", "none/model.xml"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such file"):
        choose(tmp_path / name, None, None)


@pytest.mark.parametrize("source", ["", "x" * 5000, "a\0b", "none", "owner/name"])
def test_no_such_model(source: str) -> None:
    """Left to whoever loads weights; a mode for programs says what to do."""
    assert choose(source, None, None) == (None, "exact")
    with pytest.raises(CondinstError):
        choose(source, "openvino", None)
