"""Evaluation against pycocotools: real annotations, with perturbed copies of them as predictions."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.errors import DataError, UsageError
from condinst.evaluation.evaluate import Scores, evaluate
from condinst.evaluation.match import match_classes
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode

DATA = Path(__file__).parent.parent / "data"
SETS = [("coco_mini", "train"), ("facade", "val"), ("mushrooms", "val")]


class Perturbed:
    """Answers with the truth of a data set, moved, doubled, sometimes of another class, with tied scores."""

    def __init__(self, annotations: Path, images: Path, limit: int = 1000, labels: list[int] | None = None) -> None:
        self.config = Config.from_dict({"detect": {"max_detections": limit}})
        data = read_coco(annotations, images)
        self.labels = labels or list(range(len(data.classes)))
        self.names = dict(zip(self.labels, data.classes, strict=True))
        self.truth = hotcoco.COCO(str(annotations))
        self.samples = {sample.path: sample for sample in data.samples}
        self.limit = limit

    def __call__(self, source: Path) -> Result:
        sample = self.samples[source]
        rng = np.random.default_rng(sample.image_id)
        size = (sample.height, sample.width)
        rows = [(instance, copy) for instance in sample.instances for copy in range(3)]
        rng.shuffle(rows)
        masks, boxes, labels = [], [], []
        for instance, _ in rows[: self.limit]:
            whole = self.truth.ann_to_mask(self.truth.load_anns([instance.annotation_id])[0])
            moved = np.roll(whole, rng.integers(-3, 4, 2), (0, 1)).astype(bool)
            masks.append(encode(Region(moved, 0, 0), *size))
            boxes.append(np.array(instance.box) + rng.uniform(-3, 3, 4))
            labels.append(self.labels[int(rng.choice([instance.label, rng.integers(len(self.labels))], p=[0.8, 0.2]))])
        scores = torch.from_numpy(np.sort(rng.random(len(boxes)).round(2))[::-1].copy()).float()
        corners = torch.from_numpy(np.array(boxes).reshape(-1, 4)).float()
        return Result(
            Boxes(corners, scores, torch.tensor(labels, dtype=torch.long), size),
            Masks(tuple(masks), size),
            self.names,
            size,
        )


def reference(annotations: Path, predictor: Perturbed, data: AnnotatedData, limit: int, kind: str) -> list[float]:
    """pycocotools' twelve numbers. Its summary asks for a limit of 100 by name, so the third limit is renamed so."""
    ids = dict(zip(predictor.labels, data.category_ids, strict=True))
    other = "segmentation" if kind == "bbox" else "bbox"
    found: list[dict[str, Any]] = [
        {key: value for key, value in record.items() if key not in (other, "area")}
        for sample in data.samples
        for record in predictor(sample.path).to_coco(sample.image_id, ids)
    ]
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(found), kind)
    evaluation.params.maxDets = [min(1, limit), min(10, limit), limit]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.params.maxDets = [1, 10, 100]
    evaluation.summarize()
    return list(evaluation.stats)


@pytest.mark.parametrize(("name", "split"), SETS)
@pytest.mark.parametrize("limit", [100, 1000, 5])
def test_equals_pycocotools(name: str, split: str, limit: int) -> None:
    annotations, images = DATA / name / f"{split}.json", DATA / name / "images"
    predictor = Perturbed(annotations, images, 1000)
    scores = evaluate(read_coco(annotations, images), predictor, limit)
    data = read_coco(annotations, images)
    for kind, ours in (("bbox", scores.bbox), ("segm", scores.segm)):
        expected = reference(annotations, predictor, data, limit, kind)
        np.testing.assert_allclose(astuple(ours), expected, rtol=0, atol=1e-12)
        assert 0 < ours.AP < 1
    assert scores.max_detections == limit


def test_the_limit_matters_on_dense_images() -> None:
    annotations, images = DATA / "mushrooms" / "val.json", DATA / "mushrooms" / "images"
    predictor = Perturbed(annotations, images)
    scores = [evaluate(read_coco(annotations, images), predictor, limit) for limit in (5, 100, 1000)]
    assert scores[0].segm.AR < scores[1].segm.AR < scores[2].segm.AR


def test_per_class_numbers_average_to_the_whole() -> None:
    annotations, images = DATA / "facade" / "val.json", DATA / "facade" / "images"
    scores = evaluate(read_coco(annotations, images), Perturbed(annotations, images))
    assert list(scores.segm_per_class) == list(read_coco(annotations, images).classes)
    for whole, parts in ((scores.bbox, scores.bbox_per_class), (scores.segm, scores.segm_per_class)):
        for name in ("AP", "AP50", "APs", "APl", "AR"):
            present = [value for numbers in parts.values() if (value := getattr(numbers, name)) >= 0]
            assert getattr(whole, name) == pytest.approx(np.mean(present))


def test_counts_and_json() -> None:
    annotations, images = DATA / "coco_mini" / "train.json", DATA / "coco_mini" / "images"
    done: list[tuple[int, int]] = []
    predictor = Perturbed(annotations, images)
    scores = evaluate(read_coco(annotations, images), predictor, progress=lambda *numbers: done.append(numbers))
    document = json.loads(annotations.read_bytes())
    assert scores.images == len(document["images"])
    assert scores.truths == sum(not record["iscrowd"] for record in document["annotations"])
    assert done == [(number, scores.images) for number in range(1, scores.images + 1)]
    text = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert set(text["segm"]) >= {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR"}
    assert text["max_detections"] == 100


def test_labels_need_not_be_in_the_data_sets_order() -> None:
    annotations, images = DATA / "facade" / "val.json", DATA / "facade" / "images"
    plain = evaluate(read_coco(annotations, images), Perturbed(annotations, images))
    other = Perturbed(annotations, images, labels=list(range(9, -1, -1)))
    assert evaluate(read_coco(annotations, images), other) == plain


def test_nothing_found_scores_zero_and_absent_sizes_minus_one() -> None:
    annotations, images = DATA / "nuclei" / "val.json", DATA / "nuclei" / "images"
    blind = Perturbed(annotations, images, limit=100)
    blind.limit = 0
    scores = evaluate(read_coco(annotations, images), blind)
    assert (scores.detections, scores.segm.AP, scores.bbox.AR) == (0, 0, 0)
    truths = json.loads(annotations.read_bytes())["annotations"]
    assert (scores.segm.APl == -1) == (not any(record["area"] >= 96**2 for record in truths))


def altered(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of an annotation file with the first annotation changed; None removes a key."""
    document = json.loads(source.read_bytes())
    record = document["annotations"][0] | changes
    document["annotations"][0] = {key: value for key, value in record.items() if value is not None}
    target.write_text(json.dumps(document))
    return target


def measure(annotations: Path, images: Path) -> Scores:
    return evaluate(read_coco(annotations, images), Perturbed(annotations, images))


def test_a_missing_area_is_taken_from_the_mask(tmp_path: Path) -> None:
    source, images = DATA / "nuclei" / "val.json", DATA / "nuclei" / "images"
    record = json.loads(source.read_bytes())["annotations"][0]
    pixels = float(hotcoco.COCO(str(source)).ann_to_mask(record).sum())
    stated = altered(source, tmp_path / "stated.json", area=pixels)
    absent = altered(source, tmp_path / "absent.json", area=None)
    assert measure(absent, images) == measure(stated, images)


def test_boxes_without_masks_are_measured_as_boxes(tmp_path: Path) -> None:
    """One annotation without a mask: the numbers of boxes stay, those of masks are not made up."""
    source, images = DATA / "nuclei" / "val.json", DATA / "nuclei" / "images"
    path = altered(source, tmp_path / "boxes.json", segmentation=None)
    predictor = Perturbed(source, images)
    found, whole = evaluate(read_coco(path, images), predictor), evaluate(read_coco(source, images), predictor)
    assert found.bbox == whole.bbox
    assert set(astuple(found.segm)) == {-1}
    assert found.segm_per_class.keys() == whole.segm_per_class.keys()
    assert "annotations with a box and no mask: 1; only boxes are measured" in found.notes
    assert not any("no mask" in note for note in whole.notes)


def test_a_note_says_that_no_object_is_annotated(tmp_path: Path) -> None:
    folder = Path(__file__).parent.parent / "data" / "nuclei"
    document = json.loads((folder / "val.json").read_bytes()) | {"annotations": []}
    (tmp_path / "val.json").write_text(json.dumps(document))
    data = read_coco(tmp_path / "val.json", folder / "images")
    found = evaluate(data, Perturbed(folder / "val.json", folder / "images"))
    assert found.segm.AP == found.bbox.AP == -1
    assert any("no object is annotated" in note for note in found.notes)


def test_a_lower_limit_of_the_predictor_is_refused() -> None:
    annotations, images = DATA / "nuclei" / "val.json", DATA / "nuclei" / "images"
    with pytest.raises(UsageError, match="max_detections is 1000, but the predictor keeps 100"):
        evaluate(read_coco(annotations, images), Perturbed(annotations, images, limit=100), 1000)


def test_classes_match_by_name() -> None:
    objects = tuple(Instance(label, (0, 0, 9, 9), None, False, label) for label in (0, 1))
    samples = (Sample(Path("a.png"), 1, 20, 20, objects),)
    data = AnnotatedData(samples, (3, 17), ("cat", "dog"), (), Path("val.json"))
    assert match_classes({0: "dog", 1: "cat"}, data) == ({0: 17, 1: 3}, ())
    matched, notes = match_classes({0: "cow", 1: "cat", 2: "dog"}, data)
    assert matched == {1: 3, 2: 17}
    assert "'cow'" in notes[0]
    with pytest.raises(DataError, match=r"val\.json: the model lacks the classes 'dog'; it has 'cat'"):
        match_classes({0: "cat"}, data)


def test_one_class_on_both_sides_matches_by_position() -> None:
    data = AnnotatedData((), (7,), ("nucleus",), (), Path("val.json"))
    matched, notes = match_classes({0: "cell"}, data)
    assert matched == {0: 7}
    assert "'cell'" in notes[0]
    assert "'nucleus'" in notes[0]
    assert match_classes({0: "nucleus"}, data) == ({0: 7}, ())
