"""The package in four functions: `condinst.predict`, `condinst.val`, `condinst.train` and `condinst.load_data`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack, overload

from condinst.config import SHOWN_SCORE, Range
from condinst.data.image import MAX_PIXELS
from condinst.data.open import open_data
from condinst.data.sample import AnnotatedData
from condinst.engine.run import Request, Trained, run
from condinst.errors import UsageError
from condinst.evaluation.evaluate import Scores, evaluate
from condinst.inference.network import Mode
from condinst.inference.result import Result
from condinst.inference.stream import OnError
from condinst.predictor import CallSettings, Classes, Predictor, Size
from condinst.sources.expand import Fetch, Source

Place = str | os.PathLike[str]


class PredictSettings(CallSettings, total=False):
    """What `predict` may change: `Predictor` describes each."""

    device: str | None
    nms: str | None
    mode: Mode
    max_pixels: int


@overload
def predict(  # type: ignore[overload-overlap]  # a text is an iterable, too
    source: Source | Fetch,
    model: str | Path = ...,
    batch: int = ...,
    on_error: OnError = ...,
    **settings: Unpack[PredictSettings],
) -> Result: ...
@overload
def predict(
    source: Iterable[object],
    model: str | Path = ...,
    batch: int = ...,
    on_error: OnError = ...,
    **settings: Unpack[PredictSettings],
) -> list[Result]: ...
def predict(
    source: Source | Fetch | Iterable[object],
    model: str | Path = "nuclei",
    batch: int = 1,
    on_error: OnError = "raise",
    *,
    conf: float | None = SHOWN_SCORE,
    max_detections: int | None = None,
    classes: Classes | None = None,
    size: Size | None = None,
    range: Range | str | None = None,
    device: str | None = None,
    nms: str | None = None,
    mode: Mode = "exact",
    max_pixels: int = MAX_PIXELS,
) -> Result | list[Result]:
    """Segment one picture, which gives a `Result`, or many, which give a list.

        import condinst

        result = condinst.predict("photo.jpg", model="nuclei")
        print(len(result), "objects; the best has a score of", float(result.conf[0]))
        result.save("overlay.jpg")

    source: the path of a picture, a folder, a pattern, an address, an open file, an array, a PIL image, a tensor, or a
    list of these; `Predictor.__call__` describes each, and the settings. model: a shipped or published name, a folder,
    a file, or owner/name on the Hugging Face hub; `condinst models` lists the names. Each call loads the model: a
    `Predictor` loads it once for many calls.

    Raises DataError for a picture that cannot be used, ModelError for a model that cannot be loaded, UsageError for a
    wrong type or setting.
    """
    predictor = Predictor(model, device, conf, nms=nms, max_pixels=max_pixels, mode=mode, range=range)
    return predictor(source, batch, on_error, max_detections=max_detections, classes=classes, size=size)


def val(
    data: Place | AnnotatedData,
    model: str | Path = "nuclei",
    *,
    split: str = "val",
    images: Place | None = None,
    max_detections: int = 100,
    size: Size | None = None,
    range: Range | str | None = None,
    device: str | None = None,
    nms: str | None = None,
    mode: Mode = "exact",
) -> Scores:
    """Measure a model on annotated pictures: COCO's twelve numbers for boxes and masks, also for each class.

        import condinst

        scores = condinst.val("my_data", model="nuclei", max_detections=300)
        print(scores.segm.AP, scores.bbox.AP50, scores.segm_per_class)

    data: a folder or file in any annotation format, or what `load_data` returns. split: the part of it that is
    measured; a data set without parts is measured as a whole. images: the folder of the pictures, where they lie
    elsewhere. max_detections: predictions kept and counted for each picture; COCO's standard is 100, and dense pictures
    need more. The other settings are those of `Predictor`.

    Raises DataError for data that cannot be used, ModelError for a model that cannot be loaded, UsageError for a wrong
    setting.
    """
    annotated = data if isinstance(data, AnnotatedData) else load_data(data, split, images=images)
    shorter, longer = size if isinstance(size, tuple) else (size, None)
    predictor = Predictor(model, device, None, shorter, longer, max_detections, nms, mode=mode, range=range)
    return evaluate(annotated, predictor, max_detections)


def train(
    data: Place,
    out: Place | None = None,
    *,
    recipe: str | None = None,
    start: str | None = None,
    settings: Mapping[str, object] | Sequence[str] = (),
    images: Place | None = None,
    val: Place | None = None,
    val_images: Place | None = None,
    measure: bool = True,
    resume: bool = False,
) -> Trained:
    """Train a model on annotated pictures; the folder `out` then holds the model and a report.

        import condinst

        trained = condinst.train("my_data", "runs/my_model", settings={"train.iterations": 1000})
        print(trained.scores, trained.report)
        result = trained.predictor()("photo.jpg")

    data: a folder or file in any annotation format; the classes are the data set's. out: by default runs/RECIPE or
    runs/DATA. recipe: a shipped recipe or a YAML file; without one, the data decides the settings. start: a trained
    model to begin with. settings: `{"train.lr": 0.01}` or `["train.lr=0.01"]`. images: the folder of the pictures,
    where they lie elsewhere. val, val_images: the same of the data to measure on; by default the validation part of
    `data`, else some of its pictures, which are then not trained on. measure: False trains on all and measures nothing.
    resume: go on from the last checkpoint in `out`. Progress is printed on standard error.

    Returns the folder, the scores on the validation data and a predictor of the model. Raises UsageError, DataError or
    ModelError for what cannot be used, CondinstError for what goes wrong on the way.
    """
    place = _path(data, "data")
    folder = Path("runs") / (Path(recipe).stem if recipe else place.resolve().stem) if out is None else Path(out)
    request = Request(
        place,
        folder,
        recipe,
        start,
        _overrides(settings),
        _maybe(images),
        _maybe(val),
        _maybe(val_images),
        measure,
        resume,
    )
    return run(request, lambda line: print(line, file=sys.stderr), lambda _: None)


def load_data(data: Place, split: str = "train", *, images: Place | None = None) -> AnnotatedData:
    """Read annotated pictures in any format; no pixel is decoded yet.

        import condinst

        data = condinst.load_data("my_data", split="train")
        print(data.classes, len(data.samples), sum(len(sample.instances) for sample in data.samples))

    data: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file. split: the part that is read; a data set without
    parts is read as a whole. images: the folder of the pictures, where they lie elsewhere. `notes` of what is returned
    tells what was left out. Raises DataError for what is no data set, or holds no such split or malformed records.
    """
    return open_data(_path(data, "data"), split, _maybe(images))


def _path(place: object, name: str) -> Path:
    if not isinstance(place, str | os.PathLike):
        raise UsageError(f"{name}: expected a path, got {type(place).__name__}")
    return Path(place)


def _maybe(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _overrides(settings: Mapping[str, object] | Sequence[str]) -> tuple[str, ...]:
    """section.key=value texts. Raises UsageError for another type."""
    if isinstance(settings, Mapping):
        return tuple(f"{key}={_yaml(value)}" for key, value in settings.items())
    if isinstance(settings, str) or not all(isinstance(text, str) for text in settings):
        raise UsageError("settings: expected a dict such as {'train.lr': 0.01}, or a list such as ['train.lr=0.01']")
    return tuple(settings)


def _yaml(value: object) -> str:
    """A setting as YAML on one line; tuples are lists."""
    import json

    try:
        return json.dumps(value)
    except TypeError:
        raise UsageError(f"settings: expected numbers, texts and lists, got {type(value).__name__}") from None
