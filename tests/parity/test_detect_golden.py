"""The published program's recorded head outputs → its recorded detections and masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle
from torch import Tensor

from condinst.config import Config
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect
from condinst.inference.logits import draw_logits
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import STRIDES, Detections, HeadOutput, Images, NetworkOutput

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "inference"
MODEL = ModelConfig(classes=tuple(str(label) for label in range(80)))
WHOLE_MAPS = ("CondInst_MS_R_50_1x__s256", "CondInst_MS_R_50_BiFPN_3x_sem__s256")
PROPOSALS = (*WHOLE_MAPS, "CondInst_MS_R_50_1x__s256_alllevels", "CondInst_MS_R_101_3x__s256")

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"recorded outputs not at {GOLDEN}")


class Recording:
    def __init__(self, name: str) -> None:
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        self.result: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())["results"][0]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def levels(self, name: str) -> tuple[Tensor, ...]:
        return tuple(self.tensor(f"head.{name}.p{level}") for level in range(3, 8))

    @property
    def images(self) -> Images:
        size = self.arrays["resized0_bgr_uint8"].shape[:2]
        return Images(
            self.tensor("input_norm") if "input_norm" in self.arrays else torch.empty(0), (size,), (self.original,)
        )

    @property
    def original(self) -> tuple[int, int]:
        height, width = self.result["image_size"]
        return height, width

    @property
    def detections(self) -> Detections:
        names = ("boxes", "scores", "classes", "locations", "fpn_levels", "top_feat")
        return Detections(*(self.tensor(f"prop0.{name}") for name in names))


def keys(labels: Tensor, locations: Tensor, levels: Tensor) -> list[tuple[float, ...]]:
    """What two lists of detections are matched by: scores lie too close together for ranks."""
    return [
        (label, *location, level)
        for label, location, level in zip(labels.tolist(), locations.tolist(), levels.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", WHOLE_MAPS)
def test_detections(name: str) -> None:
    golden = Recording(name)
    head = HeadOutput(*(golden.levels(field) for field in ("logits", "reg", "ctr", "top_feats")))
    (found,) = detect(NetworkOutput(head, golden.tensor("mask_feats"), None), MODEL, DetectConfig())
    expected = golden.detections
    mine = keys(found.labels, found.locations, found.levels)
    theirs = keys(expected.labels, expected.locations, expected.levels)
    assert sorted(mine) == sorted(theirs)
    order = [mine.index(key) for key in theirs]
    assert torch.allclose(found.scores[order], expected.scores, rtol=0, atol=1e-5)
    assert torch.allclose(found.boxes[order], expected.boxes, rtol=0, atol=2e-3)
    assert torch.equal(found.filters[order], expected.filters)


@pytest.mark.parametrize("name", PROPOSALS)
def test_masks_and_boxes_in_the_original(name: str) -> None:
    golden = Recording(name)
    output = NetworkOutput(HeadOutput((), (), (), ()), golden.tensor("mask_feats"), None)
    (result,) = assemble(output, [golden.detections], golden.images, draw_logits, Config(model=MODEL))
    assert len(result) == golden.result["n"] > 50
    assert torch.allclose(result.boxes.xyxy, golden.tensor("out0.boxes"), rtol=0, atol=2e-3)
    assert torch.allclose(result.boxes.conf, golden.tensor("out0.scores"), rtol=0, atol=1e-5)
    assert result.boxes.cls.tolist() == golden.arrays["out0.classes"].tolist()
    for mine, theirs in zip(result.masks.rle, golden.result["rles"], strict=True):
        assert mine["size"] == theirs["size"]
        if oracle.area(theirs):
            assert oracle.iou([dict(mine)], [theirs], [0])[0, 0] >= 0.998
        else:
            assert oracle.area(dict(mine)) == 0


def test_detections_of_mmdetection() -> None:
    """Its rule: threshold on the class alone, score without the root; its box maps are in pixels."""
    arrays = np.load(GOLDEN.parent / "mmdetection" / "golden.npz")

    def levels(name: str) -> list[Tensor]:
        return [torch.from_numpy(arrays[f"{name}_{level}"])[None] for level in range(5)]

    distances = [pixels / stride for pixels, stride in zip(levels("bbox_pred"), STRIDES, strict=True)]
    fields = (levels("cls_score"), distances, levels("centerness"), levels("param_pred"))
    output = NetworkOutput(HeadOutput(*(tuple(field) for field in fields)), torch.empty(1, 8, 32, 40), None)
    (found,) = detect(output, MODEL, DetectConfig(score_root=False))
    strides = torch.tensor(STRIDES)[found.levels]
    mine = keys(found.labels, found.locations, strides)
    labels, points, theirs = (torch.from_numpy(arrays[name]) for name in ("labels", "det_points", "det_strides"))
    order = [mine.index(key) for key in keys(labels, points, theirs)]
    assert len(set(order)) == len(mine) == 100
    assert torch.allclose(found.scores[order], torch.from_numpy(arrays["scores"]), rtol=0, atol=1e-5)
    limits = torch.tensor([320.0, 256, 320, 256])
    boxes = found.boxes[order].clamp(min=0).minimum(limits)
    assert torch.allclose(boxes, torch.from_numpy(arrays["boxes"]), rtol=0, atol=2e-3)
    assert torch.equal(found.filters[order], torch.from_numpy(arrays["det_params"]))
