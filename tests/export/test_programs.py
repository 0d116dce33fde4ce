"""Whole programs and the network cut out of them, against the model in PyTorch."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.export.runtime import run_whole
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
