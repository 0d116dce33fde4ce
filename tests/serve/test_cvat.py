"""condinst.serve.cvat with the driver of cvat-sdk: the driver checks the shapes, and its decoder finds our pixels."""

from __future__ import annotations

import importlib
import logging
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.errors import UsageError
from condinst.inference.result import Result
from condinst.ops.bitmaps.contours import trace
from condinst.ops.bitmaps.rle import Region, encode
from condinst.predictor import Predictor
from tests.serve.running import NUCLEI

models = pytest.importorskip("cvat_sdk").models
driver = importlib.import_module("cvat_sdk.auto_annotation.driver")
function = importlib.import_module("condinst.serve.cvat")
decode_mask = importlib.import_module("cvat_sdk.masks").decode_mask


class Server:
    """Takes the place of CVAT's API. uploaded: the annotations that the driver sends."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("cvat")
        self.tasks = SimpleNamespace(api=self)
        self.uploaded: list[Any] = []

    def partial_update_annotations(self, action: str, task: int, *, patched_labeled_data_request: Any) -> None:
        assert (action, task) == ("create", 137)
        self.uploaded.append(patched_labeled_data_request)


@pytest.fixture
def annotate(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(made: Any, kind: str = "any", indices: tuple[int, ...] = (3,), **options: Any) -> Any:
        labels = [models.Label(name="nucleus", id=77, type=kind, attributes=[], sublabels=[])]
        media = SimpleNamespace(load_image=lambda: Image.open(NUCLEI))
        frames = [SimpleNamespace(frame_index=index, frame_name="a.png", media=media) for index in indices]
        dataset = SimpleNamespace(labels=labels, samples=frames)
        monkeypatch.setattr(driver, "TaskDataset", lambda *_, **__: dataset)
        server = Server()
        driver.annotate_task(server, 137, made, **options)
        return server.uploaded[0]

    return run


@pytest.fixture(scope="module")
def result() -> Result:
    return Predictor("nuclei", conf=0.3)(NUCLEI)


def test_masks_are_those_of_the_model(annotate: Any, result: Result) -> None:
    sent = annotate(function.create(model="nuclei", conf=0.3), "mask", (3, 8))
    assert not sent.tags
    assert {shape.label_id for shape in sent.shapes} == {77}
    shapes = [shape for shape in sent.shapes if shape.frame == 8]
    assert len(shapes) == len(result) == len(sent.shapes) / 2
    height, width = result.orig_shape
    for shape, bitmap in zip(shapes, result.masks.data.numpy(), strict=True):
        assert shape.type.value == "mask"
        assert np.array_equal(decode_mask(shape.points, image_width=width, image_height=height), bitmap)


def test_the_threshold_of_cvat_replaces_conf(annotate: Any, result: Result) -> None:
    made = function.create(conf=0.3)
    assert len(annotate(made, conf_threshold=0.8).shapes) == int((result.conf >= 0.8).sum())
    assert len(annotate(made).shapes) == len(result)


@pytest.mark.parametrize("options", [{"shapes": "polygon"}, {"shapes": "mask"}])
def test_polygons_are_near_the_masks(annotate: Any, result: Result, options: dict[str, str]) -> None:
    """Also with --conv-mask-to-poly, which a function of masks must obey."""
    sent = annotate(function.create(conf=0.3, **options), "polygon", conv_mask_to_poly=options["shapes"] == "mask")
    shapes = [shape for shape in sent.shapes if shape.frame == 3]
    assert sum(len(parts) for parts in result.polygons) == len(shapes)
    first = next(index for index, parts in enumerate(result.polygons) if len(parts) == 1)
    points = np.array(shapes[first].points).reshape(-1, 2)
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(float(result.masks.areas[first]), rel=0.1)
    assert len(points) < len(result.polygons[first][0].outer)


def test_the_parts_of_an_instance_are_a_group() -> None:
    bitmap = np.zeros((6, 9), dtype=bool)
    bitmap[:4, :4] = bitmap[:, 6:] = True
    two = SimpleNamespace(boxes=SimpleNamespace(cls=np.array([0, 0])), polygons=[trace(bitmap), trace(bitmap[:, :5])])
    made = function.Function(SimpleNamespace(names={0: "a"}), "polygon", 1.0)
    assert [shape.group for shape in made._polygons(two)] == [1, 1, 0]


def test_an_empty_mask_has_no_points() -> None:
    assert function.mask_points(encode(Region(np.zeros((0, 0), dtype=bool), 0, 0), 5, 7)) == []
    one = np.ones((1, 1), dtype=bool)
    assert function.mask_points(encode(Region(one, 6, 4), 5, 7)) == [0, 1, 6, 4, 6, 4]


def test_a_label_that_the_task_lacks_is_refused_by_the_driver(annotate: Any) -> None:
    wrong = function.Function(SimpleNamespace(names={0: "cell"}), "mask", 1.0)
    with pytest.raises(importlib.import_module("cvat_sdk.auto_annotation").BadFunctionError, match="'cell'"):
        annotate(wrong)


@pytest.mark.parametrize(
    ("options", "words"), [({"shapes": "box"}, "shapes: expected"), ({"tolerance": -1.0}, "tolerance: expected")]
)
def test_bad_parameters(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        function.create(**options)


def test_a_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "condinst.serve.cvat")
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(UsageError, match="pip install cvat-cli"):
        importlib.import_module("condinst.serve.cvat")
