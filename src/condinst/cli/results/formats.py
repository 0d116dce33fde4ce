"""The formats of --save: for each picture, the files it gets and what is in them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from condinst.cli.results.document import TABLE, YOLO
from condinst.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from condinst.inference.result import Result


class Format(StrEnum):
    """The values of --save."""

    json = "json"
    coco = "coco"
    labelme = "labelme"
    yolo = "yolo"
    csv = "csv"
    geojson = "geojson"
    label_image = "label-image"
    masks = "masks"
    crops = "crops"


WHOLE_RUN = (Format.coco, Format.csv)  # one file for all pictures
PICTURE_FORMATS = tuple(each for each in Format if each not in WHOLE_RUN)


class File(NamedTuple):
    """One file of a picture. kind: the key of its name in results.json. make: its content, computed when written."""

    kind: str
    name: str
    make: Callable[[], bytes]


@dataclass(frozen=True)
class Saved:
    """The files for each picture. overlay: the ending of the overlay, or "" for none; style: how it is drawn."""

    formats: frozenset[Format] = frozenset()
    overlay: str = "png"
    style: dict[str, Any] = field(default_factory=dict)

    @property
    def run_files(self) -> list[str]:
        """Files for all pictures together, beside results.json."""
        return [name for kind, name in ((Format.csv, TABLE), (Format.yolo, YOLO)) if kind in self.formats]

    def describe(self) -> dict[str, Any]:
        """Return the text that --resume compares."""
        return {
            "save": ", ".join(sorted(self.formats)),
            "overlay": self.overlay,
            "style": self.style,
            "run_files": self.run_files,
        }

    def claims(self, stem: str) -> list[str]:
        """Names that must be free for a picture of this stem: its files, or the folder of its files."""
        claimed = [f"{stem}.{self.overlay}"] if self.overlay else []
        places = {
            Format.json: [f"json/{stem}.json"],
            Format.labelme: [f"labelme/{stem}.json"],
            Format.yolo: [f"yolo/labels/{stem}.txt"],
            Format.geojson: [f"geojson/{stem}.geojson"],
            Format.label_image: [f"label-image/{stem}.tif"],
            Format.masks: [f"masks/{stem}"],
            Format.crops: [f"crops/{stem}"],
        }
        return claimed + [name for kind in PICTURE_FORMATS if kind in self.formats for name in places[kind]]

    def files(self, result: Result, stem: str) -> Iterator[File]:
        """The files of one picture, computed one at a time."""
        if self.overlay:
            yield File("overlay", f"{stem}.{self.overlay}", lambda: _encode(_drawn(result, self.style), self.overlay))
        for kind in PICTURE_FORMATS:
            if kind in self.formats:
                yield from _WRITERS[kind](result, stem)


def _drawn(result: Result, style: dict[str, Any]) -> NDArray[Any]:
    """The picture with its instances; smaller for a large picture."""
    from condinst.inference.instances.pixels import is_large

    return (result.preview() if is_large(result) else result).plot(**style)


def read_formats(words: list[str]) -> frozenset[Format]:
    """The formats that --save names, separated by commas. Raises UsageError for another word."""
    found = set()
    for word in (part.strip() for text in words for part in text.split(",")):
        try:
            found.add(Format(word))
        except ValueError:
            raise UsageError(f"--save: expected one or more of {', '.join(Format)}, got '{word}'") from None
    return frozenset(found)


def _json(result: Result, stem: str) -> Iterator[File]:
    yield File("json", f"json/{stem}.json", lambda: f"{result.to_json()}\n".encode())


def _labelme(result: Result, stem: str) -> Iterator[File]:
    """The picture lies beside its annotations: labelme opens the folder."""
    picture, content = _picture(result, stem)
    yield File("labelme", f"labelme/{picture}", content)

    def annotations() -> bytes:
        return json.dumps(result.to_labelme(picture), ensure_ascii=False, indent=1).encode()

    yield File("labelme", f"labelme/{stem}.json", annotations)


def _yolo(result: Result, stem: str) -> Iterator[File]:
    picture, content = _picture(result, stem)
    yield File("yolo", f"yolo/images/{picture}", content)
    yield File("yolo", f"yolo/labels/{stem}.txt", lambda: result.to_yolo().encode())


def _geojson(result: Result, stem: str) -> Iterator[File]:
    yield File("geojson", f"geojson/{stem}.geojson", lambda: json.dumps(result.to_geojson()).encode())


def _label_image(result: Result, stem: str) -> Iterator[File]:
    yield File("label_image", f"label-image/{stem}.tif", lambda: _label_tiff(result))


def _label_tiff(result: Result) -> bytes:
    """Of a large picture, the TIFF has tiles and needs little memory."""
    from condinst.inference.instances.label_image import tiled_tiff
    from condinst.inference.instances.pixels import is_large

    large = is_large(result) and find_spec("tifffile") is not None
    return tiled_tiff(result) if large else _encode(result.label_image(), "tif")


def _masks(result: Result, stem: str) -> Iterator[File]:
    import numpy as np

    for row, name in enumerate(_instance_names(result)):
        yield File(
            "masks",
            f"masks/{stem}/{name}.png",
            lambda row=row: _encode(np.asarray(result[row].masks.data)[0].astype(np.uint8) * 255, "png"),  # type: ignore[misc]
        )


def _crops(result: Result, stem: str) -> Iterator[File]:
    for row, name in enumerate(_instance_names(result)):
        yield File("crops", f"crops/{stem}/{name}.png", lambda row=row: _encode(result[row].crops()[0], "png"))  # type: ignore[misc]


_WRITERS: dict[Format, Callable[[Any, str], Iterator[File]]] = {
    Format.json: _json,
    Format.labelme: _labelme,
    Format.yolo: _yolo,
    Format.geojson: _geojson,
    Format.label_image: _label_image,
    Format.masks: _masks,
    Format.crops: _crops,
}


def _picture(result: Result, stem: str) -> tuple[str, Callable[[], bytes]]:
    """Name and content of the picture itself: its file, or a PNG of what came from elsewhere."""
    path = result.path
    if path is None or result.image is not None:
        return f"{stem}.png", lambda: _encode(result.orig_img, "png")
    return f"{stem}{path.suffix.lower()}", path.read_bytes


def _instance_names(result: Result) -> list[str]:
    """001-cat, 002-dog: the order is that of results.json."""
    digits = max(3, len(str(len(result))))
    names = (result.names.get(label, str(label)) for label in result.boxes.cls.tolist())
    safe = (re.sub(r"[^\w.+-]+", "_", name).encode()[:80].decode(errors="ignore") for name in names)
    return [f"{number:0{digits}}-{name}" for number, name in enumerate(safe, 1)]


def _encode(array: NDArray[Any], ending: str) -> bytes:
    from PIL import Image

    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"}
    options: dict[str, Any] = {"compression": "tiff_deflate"} if ending == "tif" else {"quality": 92}
    if array.dtype.itemsize == 4:
        array = array.astype("int32")  # Pillow writes 32-bit integers with a sign
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, kinds[ending], **options)
    return encoded.getvalue()
