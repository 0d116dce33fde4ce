"""A predictor with an exported program answers as the predictor with the model in PyTorch."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condinst import predict
from condinst.config import Config
from condinst.engine.run import Trained
from condinst.errors import ModelError
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.weights.folder import save_model
from tests.export.conftest import draw, make_model

SECONDS = 240


@pytest.fixture(scope="module")
def eager(model_folder: Path) -> Predictor:
    return Predictor(model_folder, "cpu", conf=0.1, mode="exact")


@pytest.fixture(scope="module", params=["model.onnx", "model.xml"])
def other(request: pytest.FixtureRequest) -> Predictor:
    """A predictor of a program."""
    folder = Path(request.getfixturevalue("onnx_folder" if request.param == "model.onnx" else "openvino_folder"))
    return Predictor(folder / request.param, conf=0.1)


def check(found: Result, expected: Result) -> None:
    """The same instances, boxes and scores, and masks that differ in at most a few pixels of a border."""
    assert len(found) == len(expected) > 2
    assert found.boxes.cls.tolist() == expected.boxes.cls.tolist()
    torch.testing.assert_close(found.boxes.xyxy, expected.boxes.xyxy, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.boxes.conf, expected.boxes.conf, rtol=0, atol=1e-4)
    differing = (found.masks.data != expected.masks.data).flatten(1).sum(1)
    assert differing.max() <= max(2, 1e-4 * expected.masks.data[0].numel())
    assert expected.masks.data.any()


def test_what_a_predictor_says(other: Predictor, eager: Predictor) -> None:
    assert other.names == eager.names
    assert str(other.device) == "cpu"
    assert other.file is not None
    assert other.mode == ("exact" if other.file.suffix == ".onnx" else "openvino")
    assert other.config.detect == eager.config.detect
    assert other.config.model == eager.config.model


@pytest.mark.parametrize("size", [(96, 130), (40, 300), (500, 400), (7, 9)])
@pytest.mark.filterwarnings("ignore::condinst.errors.PictureWarning")  # shrunk a lot
def test_pictures_of_any_size(other: Predictor, eager: Predictor, size: tuple[int, int]) -> None:
    with np.errstate(all="raise"):
        check(other(draw(*size)), eager(draw(*size)))


@pytest.mark.parametrize(
    "settings",
    [
        {"conf": 0.73},
        {"classes": ["spore"]},
        {"classes": [0, 2], "max_detections": 4},
        {"iou": 0.2},
        {"iou": 0.9, "conf": 0.0, "max_detections": 200},
        {"size": 64},
        {"size": (128, 320)},
    ],
)
def test_settings_of_a_call(other: Predictor, eager: Predictor, settings: dict[str, Any]) -> None:
    """Also more instances and more candidates than the program itself has rows for."""
    picture = draw(110, 140, seed=3)
    expected = eager(picture, **settings)
    check(other(picture, **settings), expected)
    assert expected.boxes.xyxy.tolist() != eager(picture).boxes.xyxy.tolist()


@pytest.mark.parametrize("nms", ["mask", "matrix"])
def test_another_nms(onnx_folder: Path, model_folder: Path, nms: str) -> None:
    """A predictor runs the network alone, so it suppresses duplicates in any way."""
    picture = draw(96, 130)
    expected = Predictor(model_folder, "cpu", conf=0.1, nms=nms, mode="exact")(picture)
    check(Predictor(onnx_folder / "model.onnx", conf=0.1, nms=nms)(picture), expected)


@pytest.mark.filterwarnings("ignore::condinst.errors.PictureWarning")
def test_batches_and_streams(other: Predictor, eager: Predictor, pictures: list[Path]) -> None:
    together, alone = other.predict_batch(list(pictures)), eager.predict_batch(list(pictures))
    for mine, theirs in zip(together, alone, strict=True):
        check(mine, theirs)
    sources = [*pictures, draw(64, 64, 7), draw(30, 200, 8)]
    for mine, theirs in zip(other.stream(sources, batch=2), eager.stream(sources, batch=2), strict=True):
        check(mine, theirs)


def test_a_function_of_the_package(onnx_folder: Path, eager: Predictor, pictures: list[Path]) -> None:
    found = predict(pictures[0], model=onnx_folder / "model.onnx", conf=0.1)
    assert isinstance(found, Result)
    check(found, eager(pictures[0]))


def test_several_threads(other: Predictor, eager: Predictor) -> None:
    """Each thread gets the answers to its own pictures."""
    pictures = [draw(96, 130, seed) for seed in range(4)]
    expected = [eager(picture) for picture in pictures]
    found: dict[int, list[Result]] = {index: [] for index in range(4)}

    def work(index: int) -> None:
        found[index] = [other(pictures[index]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    for index in range(4):
        assert len(found[index]) == 5
        for result in found[index]:
            check(result, expected[index])


FORKED = """
import multiprocessing, sys
import numpy as np, torch
from condinst.predictor import Predictor

torch.set_num_threads(4)
picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
predictor = Predictor(sys.argv[1], conf=0.1, shorter=320, longer=480)
before = predictor(picture)

def check(again):
    found = again(picture)
    assert len(found) == len(before) > 0 and torch.allclose(found.boxes.xyxy, before.boxes.xyxy, atol=0.01)

for work in (lambda: check(predictor), lambda: check(Predictor(sys.argv[1], conf=0.1, shorter=320, longer=480))):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    child.kill()
    child.join()
    assert child.exitcode == 0, child.exitcode
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no process forks here")
def test_a_forked_process(other: Predictor) -> None:
    """With the predictor of the process before, and with one of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, other.model], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.stdout.endswith("done\n"), done.stderr


def test_folders(onnx_folder: Path, openvino_folder: Path, both: Path, eager: Predictor, pictures: list[Path]) -> None:
    """A folder with a program alone, and a model's folder with a program in it: the program runs."""
    for folder, mode in ((onnx_folder, "exact"), (openvino_folder, "openvino"), (both, "openvino")):
        predictor = Predictor(folder, conf=0.1)
        assert (predictor.mode, predictor.network.module) == (mode, None)
        check(predictor(pictures[0]), eager(pictures[0]))
    assert Predictor(both, mode="exact").network.module is not None
    assert Predictor(both / "model.safetensors").network.module is not None
    assert Trained(both, eager.config, None).predictor("cpu").mode == "exact"  # what was trained, not what was exported


def test_retrained_weights(both: Path, model: CondInst, config: Config) -> None:
    """A program beside weights that it was not made from is refused, until another export or a choice of mode."""
    save_model(make_model(config, seed=1), config, both)
    for source, mode in ((both, None), (both, "openvino"), (both, "fast"), (both / "model.xml", None)):
        with pytest.raises(ModelError, match=r"made from other weights than the model\.safetensors beside it"):
            Predictor(source, mode=mode)  # type: ignore[arg-type]
    assert Predictor(both, mode="exact").network.module is not None
    save_model(model, config, both)
    assert Predictor(both).mode == "openvino"


CHILDREN = """
import signal, subprocess, sys, threading
from condinst import Predictor
signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch's DataLoader does
kept = [Predictor(sys.argv[1]), Predictor(sys.argv[1])]
kept.pop(0)
thread = threading.Thread(target=kept.clear)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="Windows has no SIGCHLD")
def test_a_child_ends_after_programs_are_closed(openvino_folder: Path) -> None:
    """OpenVINO left a freed signal stack behind, and the next signal ended the process."""
    command = [sys.executable, "-c", CHILDREN, str(openvino_folder / "model.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
