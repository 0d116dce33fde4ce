"""The settings of a call with a method that finds no boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from condinst.config import Config
from condinst.errors import UsageError
from condinst.inference.settings import with_settings
from condinst.methods.choose import build_network
from condinst.predictor import Predictor

VALUES = {
    "model": {
        "method": "solov2",
        "classes": ["a", "b", "c"],
        "backbone": {"name": "resnet18"},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 32},
        "mask_branch": {"channels": 32, "features": 16},
        "size_ranges": [[1, 96], [48, 192], [96, 384], [192, 768], [384, 2048]],
        "coordinate_scales": [],
    },
    "input": {"shorter": 96, "longer": 160},
    "detect": {"score_threshold": 0.1, "score_root": False, "nms": "matrix", "candidates_per_level": 3000},
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """It finds many instances of all classes in any picture."""
    torch.manual_seed(0)
    config = Config.from_dict(VALUES)
    model = build_network(config.model).eval()
    with torch.no_grad():
        model.head.class_logits.weight.normal_(std=0.15)
        model.head.class_logits.bias.fill_(-2.5)
        model.head.filters.weight.normal_(std=0.1)
    return Predictor.from_model(model, config, "cpu")


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (120, 150, 3), dtype=np.uint8)


def test_scores_and_limits(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    """A limit of the score only drops the worse instances, and a lower one than the model's adds some."""
    every = predictor(picture)
    assert len(every) == 100
    scores = np.asarray(every.boxes.conf)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    middle = float(scores[40] + scores[41]) / 2
    some = predictor(picture, conf=middle)
    assert np.asarray(some.boxes.conf).tolist() == pytest.approx(scores[:41].tolist(), abs=1e-6)
    assert np.array_equal(np.asarray(some.masks.data), np.asarray(every.masks.data)[:41])
    assert len(predictor(picture, max_detections=7)) == 7
    low = predictor(picture, conf=0.01, max_detections=2000)
    assert len(low) > len(predictor(picture, conf=0.05, max_detections=2000)) > 100
    assert float(np.asarray(low.boxes.conf).min()) < 0.05


def test_classes(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    only = predictor(picture, classes="b", max_detections=5)
    assert (len(only), set(only.boxes.cls.tolist())) == (5, {1})


def test_boxes_enclose_the_masks(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    result = predictor(picture)
    for (x0, y0, x1, y1), mask in zip(result.boxes.xyxy.tolist(), np.asarray(result.masks.data), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_modes_and_batches(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    """Half precision finds about the same, and a batch of equal pictures finds the same in each."""
    first, second = predictor.predict_batch([picture, picture])
    alone = predictor(picture)
    assert first.boxes.conf.tolist() == pytest.approx(alone.boxes.conf.tolist(), abs=1e-4)
    assert first.boxes.conf.tolist() == pytest.approx(second.boxes.conf.tolist(), abs=1e-4)


def test_the_threshold_after_the_suppression_follows_a_low_score() -> None:
    config = Config.from_dict(VALUES)
    assert with_settings(config, conf=0.3).detect.decayed_threshold == 0.05
    assert with_settings(config, conf=0.01).detect.decayed_threshold == pytest.approx(0.01)
    assert with_settings(config).detect == config.detect


def test_another_suppression_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.method is solov2, which needs detect\.nms=matrix"):
        with_settings(Config.from_dict(VALUES), nms="box")


def test_tiles(predictor: Predictor, picture: NDArray[np.uint8]) -> None:
    """A large picture in tiles: each mask lies inside its box, and empty masks do no harm."""
    tiled = Predictor.from_model(build_network(predictor.config.model), predictor.config, "cpu")
    tiled.network = predictor.network
    tiled.config = with_settings(predictor.config, tile=96, max_detections=20)
    result = tiled(np.tile(picture, (2, 1, 1)))
    assert len(result) > 20
    assert result.masks.data.shape[1:] == (240, 150)
    for (x0, y0, x1, y1), mask in zip(result.boxes.xyxy.tolist(), np.asarray(result.masks.data), strict=True):
        outside = mask.copy()
        outside[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
        assert not outside.any()
