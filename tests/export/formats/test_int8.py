"""The network in 8 bit: it runs in a predictor. Its accuracy is measured elsewhere, on data that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.export.formats.int8 import MOST_PICTURES, last_convolutions, spread
from condinst.export.names import network_tensors
from condinst.export.openvino_core import openvino_core
from condinst.export.runtime import network_part
from condinst.predictor import Predictor
from tests.export.conftest import draw, export

NUCLEI = Path(__file__).parents[2] / "data" / "nuclei"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(model_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "out"
    done = export(model_folder, out, pictures, "--format", "openvino", "--int8", str(NUCLEI))
    assert done.exit_code == 0, done.output
    assert f"making int8.xml with the values of {NUCLEI}" in done.stderr
    return out


def types_of(program: Any) -> list[str]:
    return [node.get_type_name() for node in program.get_ops()]


def test_the_network_alone_is_in_8_bit(folder: Path, config: Config) -> None:
    """Detection and mask head stay outside: the file ends with the tensors of the network."""
    assert {"int8.xml", "int8.bin", "model.xml", "model.bin"} <= {path.name for path in folder.iterdir()}
    core = openvino_core()
    narrow, wide = core.read_model(folder / "int8.xml"), core.read_model(folder / "model.xml")
    assert [port.get_any_name() for port in narrow.outputs] == list(network_tensors(config.model))
    assert "FakeQuantize" in types_of(narrow)
    assert "FakeQuantize" not in types_of(wide)
    assert not any(kind.startswith("NonMaxSuppression") for kind in types_of(narrow))
    assert (folder / "int8.bin").stat().st_size < 0.6 * (folder / "model.bin").stat().st_size


def test_a_predictor_runs_it(folder: Path, model_folder: Path, config: Config) -> None:
    """Its boxes and scores are near those of the model, and not the same."""
    predictor = Predictor(folder, mode="int8", conf=0.1)
    assert predictor.mode == "int8"
    assert predictor.file == folder / "int8.xml"
    with torch.no_grad():
        images = (torch.from_numpy(draw(96, 160)).permute(2, 0, 1)[None].float() - 120) / 60
        found, expected = predictor.network(images), Predictor(model_folder, "cpu", mode="exact").network(images)
    for mine, theirs in zip(found.head.class_logits[:3], expected.head.class_logits[:3], strict=True):
        error = (mine - theirs).abs().mean() / theirs.std()
        assert 1e-4 < error < 0.5
    assert found.controller is not None
    assert expected.controller is not None
    assert torch.equal(found.controller.weight, expected.controller.weight)  # a constant is not rounded
    assert len(predictor(draw(96, 130))) > 5
    assert len(list(predictor.stream([draw(64, 64), draw(200, 100)], batch=2))) == 2


def test_the_last_convolutions_stay_wide(openvino_folder: Path, config: Config) -> None:
    """Three outputs of the head on five levels, and the mask features; shared weights are different operations."""
    part = network_part(openvino_core().read_model(openvino_folder / "model.xml"), config.model)
    names = last_convolutions(part)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in part.get_ops()}
    assert names
    assert {kinds[name] for name in names} <= {"Convolution", "GroupConvolution"}


def test_calibration_takes_pictures_from_all_of_the_data() -> None:
    class Sample:
        def __init__(self, path: int) -> None:
            self.path = path

    class Data:
        def __init__(self, count: int) -> None:
            self.samples = [Sample(index) for index in range(count)]

    assert spread(Data(5)) == [0, 1, 2, 3, 4]  # type: ignore[arg-type]
    many = spread(Data(1000))  # type: ignore[arg-type]
    assert len(many) == len(set(many)) == MOST_PICTURES
    assert np.diff(many).max() <= 8
    assert many[-1] > 990
