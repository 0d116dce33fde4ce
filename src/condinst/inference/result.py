"""What a picture holds: boxes and masks of its instances, in the original image's pixels. K instances, best first."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.data.image import FIRST_PAGE, Reading, read_picture
from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file
from condinst.inference.instances import annotation_files, libraries, records, tables, views
from condinst.inference.instances.boxes import Array, Boxes, Index
from condinst.inference.instances.classes import choose_labels
from condinst.inference.instances.masks import Masks
from condinst.ops.contours import Polygon
from condinst.ops.drawing.draw import draw_overlay
from condinst.ops.drawing.style import ALPHA, OVERLAY_FORMATS, ColorBy, Style, StyleOptions

SHOWN_CLASSES = 5  # in the text of a result


@dataclass(frozen=True, repr=False)
class Result(Generic[Array]):
    """The instances of one image. `image` is kept only where there is no `path` to read it from again.

        result = condinst.predict("photo.jpg")
        for one in result.filter(conf=0.7, classes="cat"):
            print(one.boxes.xyxy, one.masks.areas)

    names: class names by label. orig_shape: (height, width). path: the file; None for a picture from memory or the web.
    speed: milliseconds by stage, preprocess, inference and postprocess. name: how messages call the picture: the path,
    the address, or what it was. notes: what a user should know of how the picture was read. reading: its page, and the
    range of its values.
    """

    boxes: Boxes[Array]
    masks: Masks[Array]
    names: dict[int, str]
    orig_shape: tuple[int, int]
    path: Path | None = None
    speed: dict[str, float] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = None
    name: str = ""
    notes: tuple[str, ...] = ()
    reading: Reading = FIRST_PAGE

    @property
    def conf(self) -> Array:
        """Scores: (K,) float32 in [0, 1]."""
        return self.boxes.conf

    @property
    def cls(self) -> Array:
        """Classes: (K,) int64, keys of `names`."""
        return self.boxes.cls

    @property
    def polygons(self) -> list[list[Polygon]]:
        """Per instance its parts: outer rings and holes along pixel edges; see `Masks.polygons`."""
        return self.masks.polygons

    @property
    def orig_img(self) -> NDArray[np.uint8]:
        """The picture without drawings: (height, width, 3) uint8 RGB (BGR in ultralytics), read again from its file."""
        return self._picture()

    def name_of(self, label: int) -> str:
        """The class name of a label; its number where it has none."""
        return self.names.get(label, str(label))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Result[Array]:
        """The chosen instances as a Result: by number, slice, list, int or bool array or tensor. Raises IndexError."""
        return replace(self, boxes=self.boxes[index], masks=self.masks[index])

    def __iter__(self) -> Iterator[Result[Array]]:
        return (self[row] for row in range(len(self)))

    def filter(
        self, conf: float | None = None, classes: str | int | Iterable[str | int] | None = None
    ) -> Result[Array]:
        """The instances of at least the score `conf` and of the given classes, by name or label.

        Example: `result.filter(conf=0.7, classes=["cat", "dog"])`. Raises UsageError for a class that `names` lacks.
        """
        kept = torch.ones(len(self), dtype=torch.bool)
        if conf is not None:
            kept &= torch.as_tensor(self.conf) >= conf
        if classes is not None:
            labels = torch.tensor(choose_labels(classes, self.names), dtype=torch.int64)
            kept &= torch.isin(torch.as_tensor(self.cls), labels)
        return self[kept]

    def cpu(self) -> Result[Array]:
        """The same result; it is on the CPU already."""
        return self

    def numpy(self) -> Result[NDArray[Any]]:
        """The result with NumPy arrays in place of tensors."""
        rest = (self.names, self.orig_shape, self.path, self.speed, self.image, self.name, self.notes, self.reading)
        return Result(self.boxes.numpy(), self.masks.numpy(), *rest)

    @property
    def page(self) -> int | None:
        """The page of the file, counted from 1, where one was named."""
        return self.reading.page

    def of(
        self,
        path: Path | None,
        image: NDArray[np.uint8] | None,
        speed: dict[str, float],
        name: str = "",
        notes: tuple[str, ...] = (),
        reading: Reading = FIRST_PAGE,
    ) -> Result[Array]:
        """The same instances, knowing where their picture came from and how long it took."""
        return replace(self, path=path, image=image, speed=speed, name=name, notes=notes, reading=reading)

    def plot(
        self,
        image: NDArray[np.uint8] | None = None,
        *,
        boxes: bool | None = None,
        masks: bool = True,
        labels: bool | None = None,
        conf: bool = True,
        color_by: ColorBy | None = None,
        alpha: float = ALPHA,
        line_width: int | None = None,
        font_size: int | None = None,
        scale: float | None = None,
        legend: bool | None = None,
    ) -> NDArray[np.uint8]:
        """The picture with its instances drawn in: (rows, columns, 3) uint8 RGB.

        Example: `result.plot(boxes=False, color_by="instance")`. `image`, (height, width, 3) uint8 RGB, replaces the
        result's own picture. An option that is None is decided for each picture; `Style` gives the rules. Small
        pictures are enlarged and a legend may lie below the picture: `scale=1, legend=False` keeps the original size.
        Raises UsageError where there is no picture, its size is another, or an option is out of range.
        """
        style = Style(boxes, masks, labels, conf, color_by, alpha, line_width, font_size, scale, legend)
        picture = self._picture() if image is None else image
        if picture.shape != (*self.orig_shape, 3):
            raise UsageError(f"plot: expected an image of {(*self.orig_shape, 3)}, got {picture.shape}")
        classes, scores = self.boxes.cls.tolist(), self.boxes.conf.tolist()
        return draw_overlay(picture, self.masks.rle, np.asarray(self.boxes.xyxy), classes, scores, self.names, style)

    def save(self, path: str | Path, **options: Unpack[StyleOptions]) -> Path:
        """Write `plot(**options)` as PNG, JPEG or WebP, by the ending of `path`; returns the path.

        Example: `result.save("overlay.webp", labels=False)`. The file is written whole or not at all. Raises UsageError
        for another ending or a bad option, CondinstError where the file cannot be written.
        """
        target = Path(path)
        kind = OVERLAY_FORMATS.get(target.suffix.lower())
        if kind is None:
            raise UsageError(f"{target}: the ending must be {', '.join(OVERLAY_FORMATS)}")
        encoded = io.BytesIO()
        Image.fromarray(self.plot(**options)).save(encoded, kind, quality=92)
        try:
            replace_file(target, encoded.getvalue())
        except OSError as error:
            raise CondinstError(f"{target}: cannot be written ({error.strerror or error})") from None
        return target

    def show(self) -> None:
        """Show `plot()` in a window, or below the cell of a notebook. Raises UsageError where nothing can show it."""
        views.show(self)

    def label_image(self) -> NDArray[np.uint16 | np.uint32]:
        """(height, width) numbers: 0 where nothing is, else row + 1 of the instance: `result[n - 1]` for number n.

        uint16, and uint32 above 65 535 instances. Where masks overlap, the instance of the better score has the pixel.
        Example: `tifffile.imwrite("cells.tif", result.label_image())`.
        """
        return views.label_image(self)

    def crops(self, padding: int = 0, alpha: bool = False) -> list[NDArray[np.uint8]]:
        """The picture inside each box, (h, w, 3) uint8 RGB. padding: pixels added on each side, inside the picture.

        alpha: (h, w, 4) RGBA instead, transparent outside the instance's mask.
        """
        return views.crops(self, padding, alpha)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """A dict for each instance, with the keys of ultralytics: name, class, confidence, box, segments.

        box: x1, y1, x2, y2. segments: the lists x and y of the outline `masks.xy`. Pixels, or with `normalize`, parts
        of the image's width and height. decimals: digits after the point.
        """
        return records.summary_records(self, normalize, decimals)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as JSON text."""
        return json.dumps(self.summary(normalize, decimals), ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """The table of `to_df` as CSV text, with a line of names; corners with 2 decimals, scores with 4."""
        return tables.csv_text(self)

    def to_df(self) -> Any:
        """A pandas DataFrame, a row for each instance: x1, y1, x2, y2, score, label, name, area.

        Raises UsageError where pandas is not installed.
        """
        return tables.data_frame(self)

    def to_coco(self, image_id: int = 1, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """COCO result entries: image_id, category_id, bbox (xywh), score, segmentation (RLE), area (mask pixels).

        bbox begins with the top left corner, as COCO defines it. category_ids: the id of each label that occurs;
        label + 1 if not given. Raises UsageError for a label without an id.
        """
        return records.coco_records(self, image_id, category_ids)

    def to_labelme(self, image_path: str | Path | None = None) -> dict[str, Any]:
        """A labelme document, to be written as JSON beside the picture.

            Path("photo.json").write_text(json.dumps(result.to_labelme()))

        Masks are polygons, and PNG masks where they have holes; each shape has its score. image_path: how the document
        refers to the picture; by default the file's name, and where there is no file the picture is inside the
        document. Instances with an empty mask are left out with a warning. labelme and condinst read the same pixels.
        """
        return annotation_files.labelme_annotation(self, image_path)

    def to_yolo(self) -> str:
        """The text of a YOLO segmentation label file: a row "class x1 y1 x2 y2 …" for each instance, in [0, 1].

        A row holds one ring: parts and holes are joined into the ring by cuts without width, so that condinst reads the
        same pixels. Instances with an empty mask are left out with a warning. The format has no place for scores.
        """
        return annotation_files.yolo_text(self)

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with boxes, bitmaps, scores, class ids and names. Raises UsageError without it."""
        return libraries.supervision_detections(self)

    def to_hf(self) -> list[dict[str, Any]]:
        """The list of transformers' image-segmentation pipeline: a dict of score, label and mask for each instance.

        label: the class name. mask: a PIL image of mode "L" in the picture's size, 255 inside and 0 outside.
        """
        return libraries.transformers_records(self)

    def __repr__(self) -> str:
        height, width = self.orig_shape
        counts = Counter(self.name_of(label) for label in self.cls.tolist())
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common(SHOWN_CLASSES))
        more = f", {len(counts) - SHOWN_CLASSES} more classes" if len(counts) > SHOWN_CLASSES else ""
        place = "" if self.path is None else f", path={str(self.path)!r}"
        total = f"{len(self)} instance{'s' * (len(self) != 1)}{': ' if counts else ''}"
        return f"Result({total}{kinds}{more}, {width}×{height} pixels{place})"

    def _repr_png_(self) -> bytes | None:
        """What notebooks show."""
        return views.notebook_png(self)

    def _picture(self) -> NDArray[np.uint8]:
        if self.image is not None:
            return self.image
        if self.path is None:
            raise UsageError("plot: this result has neither path nor image; pass the image it was made from")
        return read_picture(self.path, reading=self.reading).pixels
