"""The four functions `condinst.predict`, `condinst.val`, `condinst.train` and `condinst.load_data`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack, overload

from condinst.data.open import open_data
from condinst.data.pictures.image import MAX_PIXELS
from condinst.data.sample import AnnotatedData
from condinst.engine.run import Request, Trained, run
from condinst.errors import UsageError
from condinst.evaluation.evaluate import Scores, evaluate
from condinst.inference.network import Mode
from condinst.inference.result import Result
from condinst.inference.settings import CallSettings, Classes, Size, sides
from condinst.inference.stream import OnError
from condinst.predictor import Predictor
from condinst.settings.kinds import Range
from condinst.settings.prediction import SHOWN_SCORE
from condinst.sources.expand import Fetch, Source

Place = str | os.PathLike[str]


class PredictSettings(CallSettings, total=False):
    """Settings that `predict` may change. `Predictor` describes each setting."""

    device: str | None
    nms: str | None
    mode: Mode | None
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
    iou: float | None = None,
    max_detections: int | None = None,
    classes: Classes | None = None,
    size: Size | None = None,
    range: Range | str | None = None,
    tile: int | str | None = None,
    overlap: float | None = None,
    device: str | None = None,
    nms: str | None = None,
    mode: Mode | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Result | list[Result]:
    """Segment one picture or many. One picture gives a `Result`, many give a list of `Result`.

        import condinst

        result = condinst.predict("photo.jpg", model="nuclei")
        print(len(result), "objects; the best has a score of", float(result.conf[0]))
        result.save("overlay.jpg")

    source: the path of a picture, a folder, a pattern, an address, an open file, an array, a PIL image, a tensor, or a
    list of these. `Predictor.__call__` describes the sources and the settings. model: a shipped or published name, a
    folder, a file, or owner/name on the Hugging Face hub; `condinst models` lists the names. Each call loads the model.
    A `Predictor` loads the model once for many calls.

    Raises DataError for a picture that cannot be used, ModelError for a model that cannot be loaded, UsageError for a
    wrong type or setting.
    """
    predictor = Predictor(model, device, conf, nms=nms, max_pixels=max_pixels, mode=mode, range=range, iou=iou)
    settings = CallSettings(max_detections=max_detections, classes=classes, size=size, tile=tile, overlap=overlap)
    return predictor(source, batch, on_error, **settings)


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
    mode: Mode | None = None,
) -> Scores:
    """Measure a model on annotated pictures: the twelve COCO metrics for boxes and masks, also for each class.

        import condinst

        scores = condinst.val("my_data", model="nuclei", max_detections=300)
        print(scores.segm.AP, scores.bbox.AP50, scores.segm_per_class)

    data: a folder or file in any annotation format, or the result of `load_data`. split: the part to measure; a data
    set without parts is measured as a whole. images: the folder of the pictures, if the pictures are not where the
    format defines. max_detections: maximum number of predictions per picture; COCO uses 100, and dense pictures need
    more. `Predictor` describes the other settings.

    Raises DataError for data that cannot be used, ModelError for a model that cannot be loaded, UsageError for a wrong
    setting.
    """
    annotated = data if isinstance(data, AnnotatedData) else load_data(data, split, images=images)
    shorter, longer = sides(size)
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
    """Train a model on annotated pictures. Write the model and a report to the folder `out`.

        import condinst

        trained = condinst.train("my_data", "runs/my_model", settings={"train.iterations": 1000})
        print(trained.scores, trained.report)
        result = trained.predictor()("photo.jpg")

    data: a folder or file in any annotation format. The model learns the classes of the data set. out: the folder to
    write, by default runs/RECIPE or runs/DATA. recipe: a shipped recipe or a YAML file; by default, condinst computes
    the settings from the data. start: a trained model to start from. settings: changes such as `{"train.lr": 0.01}` or
    `["train.lr=0.01"]`. images: the folder of the pictures, if the pictures are not where the format defines. val,
    val_images: the validation data and the folder of its pictures. By default, `val` is the validation part of `data`;
    without a validation part, condinst holds out some of the pictures. measure: False trains on all pictures without
    validation. resume: continue from the last checkpoint in `out`. Progress is printed on standard error.

    Returns the folder, the scores on the validation data and a predictor of the model. Raises UsageError, DataError or
    ModelError for settings, data or a model that cannot be used, CondinstError for a failure during training.
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
    """Read annotated pictures in any format. The function does not decode the pictures.

        import condinst

        data = condinst.load_data("my_data", split="train")
        print(data.classes, len(data.samples), sum(len(sample.instances) for sample in data.samples))

    data: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file. split: the part to read; a data set without parts
    is read as a whole. images: the folder of the pictures, if the pictures are not where the format defines. `notes` of
    the result lists the records and files that were left out. Raises DataError if `data` is not a data set, has no such
    split, or has malformed records.
    """
    return open_data(_path(data, "data"), split, _maybe(images))


def _path(place: object, name: str) -> Path:
    if not isinstance(place, str | os.PathLike):
        raise UsageError(f"{name}: expected a path, got {type(place).__name__}")
    return Path(place)


def _maybe(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _overrides(settings: Mapping[str, object] | Sequence[str]) -> tuple[str, ...]:
    """Return settings as section.key=value. Raises UsageError for another type."""
    if isinstance(settings, Mapping):
        return tuple(f"{key}={_yaml(value)}" for key, value in settings.items())
    if isinstance(settings, str) or not all(isinstance(text, str) for text in settings):
        raise UsageError("settings: expected a dict such as {'train.lr': 0.01}, or a list such as ['train.lr=0.01']")
    return tuple(settings)


def _yaml(value: object) -> str:
    """Return a setting as YAML on one line. A tuple becomes a list."""
    import json

    try:
        return json.dumps(value)
    except TypeError:
        raise UsageError(f"settings: expected numbers, texts and lists, got {type(value).__name__}") from None
