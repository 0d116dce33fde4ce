"""Options that several verbs share, with one wording each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from condinst.predictor import Predictor


class Nms(StrEnum):
    """How overlapping detections are thinned out."""

    box = "box"
    mask = "mask"
    matrix = "matrix"


class Mode(StrEnum):
    """How the network computes."""

    exact = "exact"
    fast = "fast"
    compiled = "compiled"


Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|FOLDER|FILE",
        help="A shipped or published model (see `condinst models`), your own, or owner/name on the Hugging Face hub.",
    ),
]
Size = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Shorter side the network sees.")]
MaxSize = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Longer side may not exceed this.")]
NmsOption = Annotated[
    Nms | None, typer.Option(help="Overlap test between detections: their boxes, masks, or Matrix NMS.")
]
Device = Annotated[
    str | None, typer.Option(metavar="cpu|cuda|mps", help="Where to compute; default: a GPU if there is one.")
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        help="exact: float32. fast: 16 bit where the hardware computes in it. compiled: fast, after a minute's "
        "compiling for each image size. Default: exact."
    ),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="full|auto|LOW,HIGH",
        help="Values that become black and white in images of more than 8 bits, such as 0,4095 for 12 bits; "
        "auto: of each image, but for the outermost thousandths. Default: the model's own, mostly full (0 to 65535).",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]


def make_predictor(
    model: str,
    device: str | None,
    size: int | None,
    max_size: int | None,
    max_detections: int | None,
    nms: Nms | None,
    conf: float | None = None,
    max_pixels: int | None = None,
    mode: Mode | None = None,
    range: str | None = None,
    iou: float | None = None,
) -> Predictor:
    """The predictor that the options describe; options left out keep what the model's own settings say.

    Raises UsageError for a device this machine lacks, ModelError for an unusable model.
    """
    from condinst.data.image import MAX_PIXELS
    from condinst.predictor import Predictor

    method = None if nms is None else nms.value
    pixels = max_pixels or MAX_PIXELS
    predictor = Predictor(
        model, device, conf, size, max_size, max_detections, method, pixels, mode.value if mode else "exact", range
    )
    if iou is not None:
        predictor.config = predictor.config.with_overrides([f"detect.nms_threshold={iou}"])
    return predictor
