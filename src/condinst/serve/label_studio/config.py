"""The labelling interface of a project: which control takes the predictions, and the names of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from condinst.errors import first_line, some
from condinst.serve.refusal import RequestError


class Shape(StrEnum):
    """The kinds of controls that take predictions, the preferred one first. The values are Label Studio's types."""

    brush = "brushlabels"
    polygon = "polygonlabels"
    rectangle = "rectanglelabels"


class Control(NamedTuple):
    """A control of the interface.

    name: of the control. image: name of the Image tag that it belongs to. key: of the picture in a task's data.
    """

    name: str
    image: str
    key: str
    shape: Shape
    labels: tuple[str, ...]


def find_control(config: str) -> Control:
    """The control for predictions: BrushLabels, else PolygonLabels, else RectangleLabels. Raises RequestError (422)."""
    try:
        root = fromstring(config)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise RequestError(422, f"label_config: cannot be read as XML ({first_line(error)})") from None
    images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
    for shape in Shape:
        for tag in (tag for tag in root.iter() if tag.tag.lower() == shape and tag.get("toName") in images):
            key = images[tag.get("toName")]
            if not key.startswith("$"):
                raise RequestError(422, f"label_config: expected value=\"$NAME\" in the Image tag, got '{key:.60}'")
            return Control(tag.get("name", ""), tag.get("toName", ""), key[1:], shape, tuple(_labels(tag)))
    raise RequestError(422, "label_config: no BrushLabels, PolygonLabels or RectangleLabels for an Image")


def labels_of_classes(control: Control, names: Mapping[int, str]) -> dict[int, str]:
    """Class → label, by name without regard to case. With one class and one label, their names may differ.

    Raises RequestError (422) if no class has a label.
    """
    if len(names) == len(control.labels) == 1:
        return dict(zip(names, control.labels, strict=True))
    known = {label.casefold(): label for label in control.labels}
    found = {number: known[name.casefold()] for number, name in names.items() if name.casefold() in known}
    if not found:
        labels, classes = some(control.labels) or "none", some(list(names.values()))
        raise RequestError(422, f"label_config: the labels are {labels}; the classes of the model are {classes}")
    return found


def _labels(tag: Element) -> list[str]:
    return [text for label in tag.iter("Label") if (text := label.get("alias") or label.get("value"))]
