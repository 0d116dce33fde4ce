"""What `condinst export` refuses: one line, an exit code, and a folder that stays as it was."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from condinst.config import Config
from condinst.export import check, folder
from condinst.export.compare import Difference
from condinst.model.condinst import CondInst
from condinst.weights.folder import save_model
from tests.export.conftest import Run, export, make_model

SECONDS = 120


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A file whose suffix promises annotations."""
    path = tmp_path / "broken.json"
    path.write_text('{"images": [')
    return path


def everything(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def refused(run: Run, code: int, model: object, out: object, *more: object) -> str:
    done = run("export", "--model", model, "--out", out, *more)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    *steps, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(step.startswith(("making ", "comparing ", "note: ", "measuring ", "writing ")) for step in steps)
    assert done.stdout == ""
    return line


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--nms", "mask"], 2, "detect.nms=mask cannot be exported; export with --nms box, or keep the model folder"),
        (["--nms", "matrix"], 2, "detect.nms=matrix cannot be exported"),
        (["--fixed", "100x100"], 2, "--fixed 100x100: both sides must be multiples of 32, up to 16384"),
        (["--fixed", "0x64"], 2, "both sides must be multiples of 32"),
        (["--fixed", "99968x64"], 2, "both sides must be multiples of 32, up to 16384"),
        (["--fixed", "abc"], 2, "--fixed abc: expected HEIGHTxWIDTH in pixels, for example 640x640"),
        (["--fixed", "64"], 2, "expected HEIGHTxWIDTH"),
        (["--fixed=-32x64"], 2, "expected HEIGHTxWIDTH"),
        (["--format", "torch"], 2, "--format torch needs the size of the pictures; add --fixed HEIGHTxWIDTH"),
        (["--format", "executorch"], 2, "--format executorch needs the size of the pictures"),
        (["--int8", "data", "--format", "onnx"], 2, "--int8 goes with --format openvino, not onnx"),
        (["--int8", "data", "--format", "openvino", "--fixed", "64x64"], 2, "leave --fixed out"),
        (["--int8", "none", "--format", "openvino"], 3, "none"),
        (["--check", "none.png"], 3, "none.png: no such file or folder"),
        (["--check", "none.json"], 3, "none.json"),
        (["--check", "empty"], 3, "empty"),
        (["--check", "broken.json"], 3, "broken.json"),
        (["--check", "broken.png"], 3, "broken.png"),
        (["--check", "broken.png", "--check", "none.png"], 3, "none.png: no such file or folder"),
    ],
)
def test_options(
    run: Run, model_folder: Path, tmp_path: Path, broken: Path, monkeypatch: pytest.MonkeyPatch, more: list[str],
    code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    assert words in refused(run, code, model_folder, "out", *more)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.json", "broken.png", "empty"]


@pytest.mark.parametrize(
    ("model", "words"), [("nuclai", "did you mean 'nuclei'?"), ("no/such/folder", "no such"), ("", "empty")]
)
def test_no_such_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str) -> None:
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    assert words in refused(run, 4, model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_no_model_to_export(run: Run, onnx_folder: Path, tmp_path: Path) -> None:
    assert "expected a .safetensors or .pth file or a folder" in refused(
        run, 4, onnx_folder / "model.onnx", tmp_path / "out"
    )
    assert "holds no model.safetensors" in refused(run, 4, onnx_folder, tmp_path / "out")


def test_folders_of_others(run: Run, model_folder: Path, tmp_path: Path, config: Config) -> None:
    """Files of the user, another model, other weights, a card or an example of the user."""
    place = tmp_path / "place"
    place.mkdir()

    def check(words: str, *more: object) -> None:
        before = everything(tmp_path)
        assert words in refused(run, 2, model_folder, place, *more)
        assert everything(tmp_path) == before

    (place / "notes.txt").write_text("mine")
    check(f"{place}: the folder has other files; choose a new or empty folder, or the model's own folder")
    shutil.rmtree(place)
    save_model(make_model(config, seed=5), config, place)
    check("the folder holds another model")
    other = config.with_overrides(["model.classes=[a]"])
    save_model(make_model(other), other, place)
    check("the folder holds another model")
    shutil.rmtree(place)
    shutil.copytree(model_folder, place)
    check("holds the model, which would then predict with this program", "--format", "openvino", "--fixed", "64x64")
    (place / "README.md").write_text("# My notes\n")
    check("README.md: condinst did not write this file; move it or choose another folder")
    (place / "README.md").unlink()
    (place / "example.py").write_text("print('mine')\n")
    check("example.py: condinst did not write this file")


def test_a_program_of_other_weights_stays(
    run: Run, onnx_folder: Path, config: Config, tmp_path: Path, pictures: list[Path]
) -> None:
    """Two programs of one folder are of the same weights."""
    save_model(make_model(config, seed=5), config, tmp_path / "model")
    place = tmp_path / "place"
    shutil.copytree(onnx_folder, place)
    before = everything(place)
    line = refused(run, 2, tmp_path / "model", place, "--format", "openvino")
    assert "model.onnx: made from other weights; remove the file or choose another folder" in line
    assert everything(place) == before


def test_places_that_cannot_be_written(run: Run, model_folder: Path, tmp_path: Path, pictures: list[Path]) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "cannot be used as a folder (Not a directory)" in refused(run, 2, model_folder, file)
    for place in (file / "out", *([Path("/proc/out")] if Path("/proc").is_dir() else [])):
        assert f"{place}: cannot be written (" in refused(run, 1, model_folder, place)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("package", "format", "extra"),
    [
        ("onnx", "onnx", "condinst[export]"),
        ("onnxruntime", "onnx", "condinst[export]"),
        ("onnxscript", "onnx", "condinst[export]"),
        ("openvino", "openvino", "condinst[openvino]"),
        ("onnx", "openvino", "condinst[export]"),
        ("nncf", "openvino", "condinst[openvino]"),
    ],
)
def test_missing_packages(
    run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, format: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    more = ["--int8", Path(__file__).parents[1] / "data" / "nuclei"] if package == "nncf" else []
    line = refused(run, 2, model_folder, tmp_path / "out", "--format", format, *more)
    assert f"needs the package {package}; install it: pip install '{extra}'" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["openvino", "executorch"])
def test_deformable_convolutions(
    run: Run, config: Config, tmp_path: Path, format: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = config.with_overrides(["model.backbone={name: resnet50, deformable_interval: 3}"])
    model = tmp_path_factory.mktemp("deformable") / "model"
    save_model(CondInst(changed.model), changed, model)
    line = refused(run, 2, model, tmp_path / "out", "--format", format, "--fixed", "64x96")
    assert "the runtime has no deformable convolutions; export this model to onnx" in line
    assert list(tmp_path.iterdir()) == []


def test_missing_executorch(run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    line = refused(run, 2, model_folder, tmp_path / "out", "--format", "executorch", "--fixed", "64x96")
    assert line.endswith("export to ExecuTorch needs the package executorch; install it: pip install executorch")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_differs(
    run: Run, model_folder: Path, tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is not written, and an older program in it stays."""
    place = tmp_path / "place"
    shutil.copytree(model_folder, place)
    assert export(place, place, pictures, "--format", "openvino").exit_code == 0
    before = everything(place)

    def differ(*arguments: object) -> list[Difference]:
        return [Difference("a.png", (5, 4), 1, 0.5, 0.01, 0.8, 7, 100)]

    monkeypatch.setattr(folder, "differences_on", differ)
    line = refused(run, 1, place, place, "--format", "openvino", "--check", pictures[0])
    assert line == (
        "error: a.png: the program differs from the model: 1 instance that only one of them has, a box that differs by "
        "0.5 px (limit 0.01), a score that differs by 0.01 (limit 0.001), a mask with IoU 0.800 (limit 0.99); nothing "
        "was written"
    )
    assert everything(place) == before


def test_a_program_that_loses_accuracy(
    run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(contestants: list[check.Contestant], *more: object) -> list[check.Measured]:
        return [check.Measured(one.name, 0.5, 0.5 - 0.1 * i, one.loss) for i, one in enumerate(contestants)]

    monkeypatch.setattr(folder, "measure_all", measure)
    data = Path(__file__).parents[1] / "data" / "nuclei" / "val.json"
    line = refused(run, 1, model_folder, tmp_path / "out", "--format", "openvino", "--check", data)
    assert "model.xml: loses 10.0 points of mask AP (limit 0.1); nothing was written" in line
    assert list(tmp_path.iterdir()) == []


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As a full disk does, writing fails halfway."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a feature of Unix")
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("size", [100, 100_000])
def test_a_full_disk(
    run: Run, model_folder: Path, openvino_folder: Path, tmp_path: Path, pictures: list[Path], format: str, size: int
) -> None:
    """openvino_folder: only so that its program is made before the limit."""
    with no_file_larger_than(size):
        line = refused(run, 1, model_folder, tmp_path / "out", "--format", format, "--check", pictures[0])
    assert f"{tmp_path / 'out'}: cannot be written (" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize(
    ("moment", "number"), [("making model.onnx", signal.SIGINT), ("comparing with the model", signal.SIGTERM)]
)
def test_ctrl_c(model_folder: Path, tmp_path: Path, pictures: list[Path], number: signal.Signals, moment: str) -> None:
    """Ctrl-C and SIGTERM leave nothing, wherever they come."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "condinst", "export", "--model", str(model_folder), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--check", str(pictures[0])], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        while moment not in (line := process.stderr.readline()):
            assert line, process.wait()
        assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
        if moment.startswith("making"):  # comparing takes no second
            time.sleep(1)
        process.send_signal(number)
        rest = process.communicate(timeout=SECONDS)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "interrupted"
    assert len(rest.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
