"""Options that several verbs share, with one wording each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from condinst.predictor import Predictor


class Nms(StrEnum):
    """How overlapping detections are thinned out."""

    box = "box"
    mask = "mask"
    matrix = "matrix"


Model = Annotated[
    str, typer.Option(metavar="NAME|FOLDER|FILE", help="A shipped model (see `condinst models`) or your own.")
]
Size = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Shorter side the network sees.")]
MaxSize = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Longer side may not exceed this.")]
NmsOption = Annotated[
    Nms | None, typer.Option(help="Overlap test between detections: their boxes, masks, or Matrix NMS.")
]
Device = Annotated[
    str | None, typer.Option(metavar="cpu|cuda|mps", help="Where to compute; default: a GPU if there is one.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]


def make_predictor(model: str, device: str | None, size: int | None, max_size: int | None, **others: Any) -> Predictor:
    """The predictor that the options describe; options left out keep what the model's own settings say.

    Raises UsageError for a device this machine lacks, ModelError for an unusable model.
    """
    from condinst.predictor import Predictor

    given = {key: str(value) if isinstance(value, Nms) else value for key, value in others.items() if value is not None}
    return Predictor(model, device=device, shorter=size, longer=max_size, **given)
