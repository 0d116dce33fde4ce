"""Whole programs and the network cut out of them, against the model in PyTorch."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.export.names import OUTPUTS, network_tensors
from condinst.export.openvino_core import openvino_core
from condinst.export.runtime import open_network, run_whole
from condinst.inference.detect import detect
from condinst.inference.logits import mask_logits
from condinst.inference.network import make_network
from condinst.model.condinst import CondInst
from tests.export.conftest import draw

SIZES = ((64, 64), (32, 320), (256, 192))  # the first two have one cell in a side of P7
NARROW = 1e-3  # a logit this close to the border of a mask may round to the other side


@pytest.fixture(params=["model.onnx", "model.xml"])
def program(request: pytest.FixtureRequest) -> Path:
    name = request.param
    return Path(request.getfixturevalue("onnx_folder" if name.endswith("onnx") else "openvino_folder")) / name


def batch_of(count: int, height: int, width: int) -> Tensor:
    arrays = np.stack([draw(height, width, seed) for seed in range(count)])
    return (torch.from_numpy(arrays).permute(0, 3, 1, 2).float() - 120) / 60


@pytest.mark.parametrize(("size", "count"), [*product(SIZES, (1, 2, 3))])
def test_the_same_instances(program: Path, model: CondInst, config: Config, size: tuple[int, int], count: int) -> None:
    images = batch_of(count, *size)
    network = make_network(model, "exact", torch.device("cpu"), 32)
    with torch.inference_mode():
        output = network(images)
        expected = detect(output, config.model, config.detect)
    boxes, scores, labels, counts, logits = run_whole(program, images)
    assert logits.shape == (count, 20, size[0] // 8, size[1] // 8)
    assert counts.tolist() == [len(one.scores) for one in expected]
    assert sum(counts) > 5 * count
    for image, wanted in enumerate(expected):
        here = slice(0, int(counts[image]))
        assert labels[image][here].tolist() == wanted.labels.tolist()
        np.testing.assert_allclose(boxes[image][here], wanted.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(scores[image][here], wanted.scores, rtol=0, atol=1e-4)
        assert (scores[image][here.stop :] == -1).all()
        assert (labels[image][here.stop :] == -1).all()
        masks = torch.cat(list(mask_logits(output.mask_features[image], wanted, config.model))).numpy()
        cells = (logits[image][here] > 0) != (masks > 0)
        assert np.abs(masks[cells]).max(initial=0) < NARROW
        assert cells.mean() < 1e-3
        assert 0.02 < (masks > 0).mean() < 0.98


@pytest.mark.parametrize("size", SIZES)
def test_the_network_cut_out_of_a_program(
    program: Path, model: CondInst, config: Config, size: tuple[int, int]
) -> None:
    """What a predictor runs: the tensors before the detection, all of them."""
    images = batch_of(2, *size)
    expected = make_network(model, "exact", torch.device("cpu"), 32)(images)
    found = open_network(program, config)(images)
    assert found.controller is not None
    assert expected.controller is not None
    for mine, theirs in zip((*found.head, found.controller), (*expected.head, expected.controller), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.mask_features, expected.mask_features, rtol=1e-4, atol=1e-4)


def test_names_and_free_dimensions_of_onnx(onnx_folder: Path, config: Config) -> None:
    graph = onnx.load(onnx_folder / "model.onnx").graph
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "images": ["batch", 3, "height", "width"],
        "boxes": ["batch", 20, 4],
        "scores": ["batch", 20],
        "labels": ["batch", 20],
        "count": ["batch"],
        "mask_logits": ["batch", 20, "height / 8", "width / 8"],
    }
    onnx.checker.check_model(str(onnx_folder / "model.onnx"), full_check=True)
    known = {value.name for value in graph.value_info} | {value.name for value in graph.initializer}
    assert set(network_tensors(config.model)) <= known


def test_no_program_tells_where_the_code_lies(onnx_folder: Path, openvino_folder: Path) -> None:
    """The exporter notes a stack trace with paths of this machine for each operation."""
    home = str(Path(__file__).parents[2]).encode()
    for path in (*onnx_folder.iterdir(), *openvino_folder.iterdir()):
        content = path.read_bytes()
        assert not any(word in content for word in (home, b"site-packages", b"stack_trace")), path


def test_names_and_free_dimensions_of_openvino(openvino_folder: Path) -> None:
    program = openvino_core().read_model(openvino_folder / "model.xml")
    assert [port.get_any_name() for port in program.inputs] == ["images"]
    assert [port.get_any_name() for port in program.outputs] == list(OUTPUTS)
    (images,) = program.inputs
    assert [dim.is_dynamic for dim in images.partial_shape] == [True, False, True, True]
    assert [dim.is_dynamic for dim in program.output("mask_logits").partial_shape] == [True, False, True, True]
