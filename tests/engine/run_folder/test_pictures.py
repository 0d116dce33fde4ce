"""Pictures of a run: labels counted, batches as the network sees them, predictions beside the truth."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.config import Config
from condinst.data.batch import Batch, Collate
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine.run_folder.pictures import LARGEST_JPEG, draw_batch, draw_labels, draw_predictions
from condinst.evaluation.cases import predict_case, truth_of
from condinst.inference.result import Result
from condinst.ops.drawing.chart import plain

DATA = Path(__file__).parent.parent.parent / "data"


def opened(name: str, split: str = "train") -> AnnotatedData:
    return read_coco(DATA / name / f"{split}.json", DATA / name / "images")


def settings_of(data: AnnotatedData) -> Config:
    return Config.from_dict(
        {
            "model": {"classes": data.classes, "channel_order": "BGR"},
            "augment": {"shorter": [256], "longer": 400, "crop": 256},
            "detect": {"max_detections": 500},
        }
    )


def batch_of(data: AnnotatedData, count: int) -> tuple[Batch, Config]:
    config = settings_of(data)
    model = config.model
    pictures = TrainingSet(data, config.augment, model.mask_head.mask_out_stride, 0)
    collate = Collate(model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor)
    return collate([pictures[0, index % len(pictures)] for index in range(count)]), config


def image_of(content: bytes) -> np.ndarray:
    assert len(content) <= LARGEST_JPEG
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", ["nuclei", "facade"])
def test_a_batch_shows_its_pictures_and_its_truth(name: str) -> None:
    batch, config = batch_of(opened(name), 2)
    bare = batch._replace(truths=tuple(type(truth)(*(part[:0] for part in truth)) for truth in batch.truths))
    drawn, empty = image_of(draw_batch(batch, config.model)), image_of(draw_batch(bare, config.model))
    assert drawn.shape == empty.shape
    height, width = batch.images.sizes[0]
    seen = batch.images.tensor[0, :, :height, :width].permute(1, 2, 0).numpy()[:, :, ::-1]  # BGR → RGB
    pixels = seen * np.array(config.model.pixel_std)[::-1] + np.array(config.model.pixel_mean)[::-1]
    assert np.abs(empty[:height, :width] - pixels).mean() < 3
    # where masks are, and hardly anywhere else, the picture is changed
    stride, truth = config.model.mask_head.mask_out_stride, batch.truths[0]
    masked = np.zeros((height + stride, width + stride), dtype=bool)
    start = 0
    for x, y, columns, rows in truth.mask_places.tolist():
        part = truth.mask_pixels[start : start + rows * columns].reshape(rows, columns).numpy()
        start += rows * columns
        large = np.kron(part, np.ones((stride, stride), dtype=bool))
        masked[y * stride : y * stride + large.shape[0], x * stride : x * stride + large.shape[1]] |= large
    masked = masked[:height, :width]
    changed = np.abs(drawn - empty)[:height, :width].max(axis=2) > 30
    assert masked.any()
    assert changed[masked].mean() > 0.8
    if name == "nuclei":  # no captions
        assert changed[~masked].mean() < 0.02


def test_a_large_batch_and_one_without_objects() -> None:
    data = opened("nuclei")
    batch, config = batch_of(data, 20)
    assert image_of(draw_batch(batch, config.model)).shape[1] <= 1700
    empty = replace(data, samples=tuple(replace(sample, instances=()) for sample in data.samples))
    assert image_of(draw_batch(batch_of(empty, 1)[0], config.model)).shape == (256, 256, 3)


@pytest.mark.parametrize("name", ["facade", "coco_mini", "nuclei"])
def test_labels_are_counted(name: str) -> None:
    data = opened(name)
    root = ET.fromstring(draw_labels(data))
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    things = [one for sample in data.samples for one in sample.instances if not one.crowd]
    counts = Counter(data.classes[one.label] for one in things)
    for class_name, count in counts.most_common(3):
        place = next(index for index, text in enumerate(texts) if text == class_name)
        assert texts[place + 1] == plain(count)
    assert f"Objects by class: {len(things)} in {len(data.samples)} pictures" in texts[0]
    sizes = [texts[index + 1] for index, text in enumerate(texts) if re.fullmatch(r"\d+–\d+ px", text)]
    assert sum(int(size.replace(",", "")) for size in sizes) == len(things)


def test_labels_of_nothing() -> None:
    data = opened("nuclei")
    empty = replace(data, samples=())
    assert "0 in 0 pictures" in draw_labels(empty)


class Truthful:
    """Knows the classes in another order, and one more."""

    def __init__(self, data: AnnotatedData) -> None:
        self.config = settings_of(data)
        self.names = dict(enumerate((*reversed(data.classes), "none of these")))
        self.samples, self.classes = {sample.path: sample for sample in data.samples}, data.classes

    def __call__(self, source: Path) -> Result:
        found = truth_of(self.samples[source], self.classes)
        labels = len(self.classes) - 1 - found.boxes.cls
        boxes = replace(found.boxes, cls=labels, conf=torch.linspace(0.9, 0.1, len(found)))
        return replace(found, boxes=boxes, names=self.names)


def test_predictions_are_in_the_data_sets_words() -> None:
    data = opened("facade", "val")
    sample = max(data.samples, key=lambda one: len(one.instances))
    case = predict_case(sample, Truthful(data), data, score=0)
    assert case.fit.matched75 == case.fit.objects == case.fit.predicted > 1
    assert case.predicted.names == dict(enumerate(data.classes))
    half = predict_case(sample, Truthful(data), data, score=0.5)
    assert 0 < half.fit.predicted < case.fit.predicted
    counts = Counter(one.label for one in sample.instances)
    limited = predict_case(sample, Truthful(data), data, score=0, limit=1)
    assert limited.fit.predicted == len(counts)


def test_a_sheet_of_predictions() -> None:
    data = opened("facade", "val")
    one, all_ = (image_of(draw_predictions(data, Truthful(data), count)) for count in (1, 100))
    assert all_.shape[0] > one.shape[0] * len(data.samples) / 2
    assert one.shape[1] > 3 * 200
