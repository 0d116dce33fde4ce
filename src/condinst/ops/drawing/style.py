"""Options for drawing instances, for `Result.plot` and `condinst predict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from condinst.errors import UsageError

ColorBy = Literal["class", "instance"]

OVERLAY_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # ending → Pillow's name

ALPHA = 0.42
READABLE = 640  # pixels; small pictures are enlarged until their longer side is about this long
LARGEST_SCALE = 16
CAPTIONED = 60  # instances; more captions than these would hide the picture
BOXED = 20  # instances; more boxes than these would hide the picture


@dataclass(frozen=True)
class Style:
    """Options for drawing. None means that condinst decides for each picture, by the rule given here.

    boxes: draw boxes; by default for at most 20 instances, each large enough for a box.
    masks: draw masks, filled and outlined.
    labels: write class names; by default on every instance that is large enough, up to 60 instances.
    conf: write scores behind the names.
    color_by: "class" or "instance"; by default "class" for a model of several classes.
    alpha: opacity of the colour inside a mask, from 0 to 1.
    line_width, font_size: in pixels of the drawn picture; by default proportional to its shorter side.
    scale: size of the drawn picture relative to the original. By default, pictures are enlarged by a whole number
    until the longer side has about 640 pixels; larger pictures keep their size.
    legend: add a strip below the picture with the colour and the number of instances of each class; by default if the
    picture shows a class without a caption.
    Raises UsageError for a number out of range or an unknown color_by.
    """

    boxes: bool | None = None
    masks: bool = True
    labels: bool | None = None
    conf: bool = True
    color_by: ColorBy | None = None
    alpha: float = ALPHA
    line_width: int | None = None
    font_size: int | None = None
    scale: float | None = None
    legend: bool | None = None

    def __post_init__(self) -> None:
        _check("alpha", self.alpha, 0, 1)
        _check("line_width", self.line_width, 1, 1000)
        _check("font_size", self.font_size, 4, 1000)
        _check("scale", self.scale, 0.01, LARGEST_SCALE)
        if self.color_by not in (None, "class", "instance"):
            raise UsageError(f"color_by: expected 'class' or 'instance', got {self.color_by!a:.40}")

    def scale_for(self, height: int, width: int) -> float:
        """The scale for a picture of this size in pixels."""
        if self.scale is not None:
            return self.scale
        return min(max(1, round(READABLE / max(height, width))), LARGEST_SCALE)

    def line_width_for(self, height: int, width: int) -> int:
        """The line width in pixels for a drawn picture of this size."""
        return self.line_width or max(1, round(min(height, width) / 320))

    def font_size_for(self, height: int, width: int) -> int:
        """The font size in pixels for a drawn picture of this size."""
        return self.font_size or min(max(12, round(min(height, width) / 42)), 96)


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # NaN fails here, too
        raise UsageError(f"{name}: expected a number from {low:g} to {high:g}, got {value}")


class StyleOptions(TypedDict, total=False):
    """The fields of Style as keyword arguments, for functions that pass them on."""

    boxes: bool | None
    masks: bool
    labels: bool | None
    conf: bool
    color_by: ColorBy | None
    alpha: float
    line_width: int | None
    font_size: int | None
    scale: float | None
    legend: bool | None
