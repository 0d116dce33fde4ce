"""Overlay options of `predict`. The names are those of the keywords of `Result.plot`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

PANEL = "Overlays"


class ColorBy(StrEnum):
    """What the colour of an instance stands for."""

    class_ = "class"
    instance = "instance"


class OverlayFormat(StrEnum):
    """File formats of overlays."""

    jpg = "jpg"
    png = "png"
    webp = "webp"


def _option(help: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, **limits)


Overlay = Annotated[bool, _option("Write an overlay for each image: the image with its instances drawn in.")]
Ending = Annotated[OverlayFormat, _option("File format of the overlays.", "--overlay-format")]
Boxes = Annotated[bool | None, _option("Draw boxes. Default: if there is enough space.", "--boxes/--no-boxes")]
Masks = Annotated[bool | None, _option("Draw masks.", "--masks/--no-masks")]
Labels = Annotated[
    bool | None, _option("Write class names. Default: if there is enough space.", "--labels/--no-labels")
]
ConfLabels = Annotated[bool | None, _option("Write scores after the class names.", "--conf-labels/--no-conf-labels")]
Legend = Annotated[
    bool | None,
    _option("Add a legend of the colours. Default: if a class has no label in the image.", "--legend/--no-legend"),
]
Color = Annotated[ColorBy | None, _option("Give each class or each instance its own colour.")]
Alpha = Annotated[float | None, _option("Opacity of the masks: 0 is transparent, 1 is opaque.", min=0, max=1)]
LineWidth = Annotated[int | None, _option("Width of the outlines in pixels.", min=1, max=1000)]
FontSize = Annotated[int | None, _option("Height of the text in pixels.", min=4, max=1000)]
Scale = Annotated[
    float | None,
    _option("Factor to resize the overlay. Default: enlarge small images to a readable size.", min=0.01, max=64),
]
