"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from condinst.predictor import Predictor


class Nms(StrEnum):
    """How non-maximum suppression compares detections."""

    box = "box"
    mask = "mask"
    matrix = "matrix"


class Mode(StrEnum):
    """How the network computes."""

    exact = "exact"
    fast = "fast"
    compiled = "compiled"
    openvino = "openvino"
    int8 = "int8"


Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|FOLDER|FILE",
        help="Model: a name from `condinst models`, a model folder or file, or owner/name on the Hugging Face hub.",
    ),
]
Size = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Resize images to this shorter side.")]
MaxSize = Annotated[int | None, typer.Option(min=1, metavar="PIXELS", help="Limit the longer side to this length.")]
NmsOption = Annotated[
    Nms | None, typer.Option(help="How to remove duplicate detections: NMS on boxes, NMS on masks, or Matrix NMS.")
]
Device = Annotated[
    str | None, typer.Option(metavar="cpu|cuda|mps", help="Device to compute on. Default: cuda if available, else cpu.")
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        help="exact: compute in float32. fast: compute in 16 bit if the hardware supports 16 bit. compiled: like fast, "
        "with code compiled for each image size, which takes about a minute. openvino, int8: run the program that "
        "`condinst export` wrote into the model's folder. Default: openvino if the folder has that program, else exact."
    ),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="full|auto|LOW,HIGH",
        help="Values that become black and white in images of more than 8 bits, for example 0,4095 for 12 bits. "
        "full: 0 to 65535. auto: the range of each image without its outermost thousandths. Default: the model's "
        "setting, usually full.",
    ),
]
TileOption = Annotated[
    str | None,
    typer.Option(
        "--tile",
        metavar="PIXELS|auto|off",
        help="Cut images larger than this into square tiles of this side and join their objects. auto: only where the "
        "whole image would be shrunk so far that objects vanish. off: never. Default: the model's setting, usually "
        "auto.",
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        metavar="PART|PIXELS",
        help="What neighbouring tiles share: a part of the side below 1, or pixels. Default: 0.2.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print only one JSON document on standard output.")]


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
    tile: str | None = None,
    overlap: float | None = None,
) -> Predictor:
    """Make a predictor from the options. An option of None keeps the model's setting.

    Raises UsageError for a device that this machine does not have, ModelError for a model that cannot be loaded.
    """
    from condinst.data.pictures.image import MAX_PIXELS
    from condinst.predictor import Predictor

    method = None if nms is None else nms.value
    pixels = max_pixels or MAX_PIXELS
    return Predictor(
        model,
        device,
        conf,
        size,
        max_size,
        max_detections,
        method,
        pixels,
        mode.value if mode else None,
        range,
        iou,
        tile,
        overlap,
    )
