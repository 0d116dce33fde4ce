"""Options of `predict` for the overlays, named as the keywords of `Result.plot`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

PANEL = "Overlays"


class ColorBy(StrEnum):
    """What decides an instance's colour."""

    class_ = "class"
    instance = "instance"


class OverlayFormat(StrEnum):
    """File formats of overlays."""

    jpg = "jpg"
    png = "png"
    webp = "webp"


def _option(help: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, **limits)


Overlay = Annotated[bool, _option("Write a picture with the instances drawn in, for each image.")]
Ending = Annotated[OverlayFormat, _option("File format of the overlays.", "--overlay-format")]
Boxes = Annotated[bool | None, _option("Draw boxes. Default: where there is room.", "--boxes/--no-boxes")]
Masks = Annotated[bool | None, _option("Draw masks.", "--masks/--no-masks")]
Labels = Annotated[bool | None, _option("Write class names. Default: where there is room.", "--labels/--no-labels")]
ConfLabels = Annotated[bool | None, _option("Write scores behind the names.", "--conf-labels/--no-conf-labels")]
Legend = Annotated[
    bool | None, _option("Add a legend of the colours. Default: where a class has no label.", "--legend/--no-legend")
]
Color = Annotated[ColorBy | None, _option("What decides the colour of an instance.")]
Alpha = Annotated[float | None, _option("How much of the colour covers the picture.", min=0, max=1)]
LineWidth = Annotated[int | None, _option("Pixels of outlines.", min=1, max=1000)]
FontSize = Annotated[int | None, _option("Pixels of captions.", min=4, max=1000)]
Scale = Annotated[
    float | None, _option("Enlarge the picture. Default: small ones to a readable size.", min=0.01, max=64)
]
