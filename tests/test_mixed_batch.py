"""A batch of pictures of several sizes gives what each gives alone in the same padding.

Padding is part of the input: group norms average over it and convolutions at the content's edge see it, as in the
published model. So what is exactly true is tested: the company in a batch changes nothing, only the padded size may.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hotcoco import mask as coco_mask
from PIL import Image

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor

FACADE = Path(__file__).parent / "data" / "facade" / "images"
CONFIG = Config.from_dict(
    {
        "model": {
            "classes": ["one", "two"],
            "backbone": {"name": "mobilenetv2_035"},
            "fpn_channels": 32,
            "head": {"convs": 1, "channels": 32, "prior": 0.3},
            "mask_branch": {"convs": 1, "channels": 16},
            "size_divisor": 160,  # every picture below ends in 160×160
        },
        "input": {"shorter": 96, "longer": 160},
        "detect": {"max_detections": 15},
    }
)


@pytest.fixture(scope="module")
def model() -> CondInst:
    torch.manual_seed(0)
    network = CondInst(CONFIG.model).eval()
    with torch.no_grad():
        network.head.controller.weight.mul_(30)
        network.head.distances.bias.fill_(2)
    return network


def pictures() -> list[np.ndarray]:
    whole = np.asarray(Image.open(sorted(FACADE.glob("*.jpg"))[0]).convert("RGB"))
    return [whole, whole[100:300, 50:350], whole[:, 200:400], whole[300:364, 300:364]]


def same(one: Result, other: Result) -> None:
    assert len(one) == len(other) > 3
    assert one.boxes.cls.tolist() == other.boxes.cls.tolist()
    assert torch.allclose(one.boxes.xyxy, other.boxes.xyxy, atol=1e-2)
    assert torch.allclose(one.boxes.conf, other.boxes.conf, atol=1e-5)
    for mine, theirs in zip(one.masks.rle, other.masks.rle, strict=True):
        if coco_mask.area(dict(theirs)):
            assert coco_mask.iou([dict(mine)], [dict(theirs)], [0])[0][0] > 0.99


def test_predictor(model: CondInst) -> None:
    predictor = Predictor.from_model(model, CONFIG, "cpu")
    sources = pictures()
    together = predictor.predict_batch(list(sources))
    shapes = [result.orig_shape for result in together]
    assert shapes == [source.shape[:2] for source in sources]
    assert any(coco_mask.area(dict(rle)) for result in together for rle in result.masks.rle)
    for result, source in zip(together, sources, strict=True):
        same(result, predictor(source))


@torch.no_grad()
def test_model(model: CondInst) -> None:
    """Without the trick of one size: each picture alone, padded as far as the batch is."""
    arrays = [
        np.ascontiguousarray(array[:h, :w]) for array, (h, w) in zip(pictures(), ((96, 130), (64, 96)), strict=False)
    ]
    settings = (CONFIG.model.pixel_mean, CONFIG.model.pixel_std, "RGB", 32)
    sizes = [array.shape[:2] for array in arrays]
    together = make_images(arrays, sizes, *settings)  # type: ignore[arg-type]
    assert together.tensor.shape == (2, 3, 96, 160)
    network = model.double()
    output = network(together.tensor.double())
    for index, array in enumerate(arrays):
        alone = make_images([array], [sizes[index]], *settings).tensor  # type: ignore[list-item]
        height, width = alone.shape[-2:]
        padded = torch.nn.functional.pad(alone, (0, 160 - width, 0, 96 - height))
        assert torch.equal(padded[0], together.tensor[index])
        single = network(padded.double())
        for one, other in zip(sum(output.head, ()), sum(single.head, ()), strict=True):
            assert torch.allclose(one[index], other[0], rtol=1e-9, atol=1e-9)
        assert torch.allclose(output.mask_features[index], single.mask_features[0], rtol=1e-9, atol=1e-9)
    network.float()
