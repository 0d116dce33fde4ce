"""The result for one picture: boxes, masks, classes and scores of K instances, best first."""

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

from condinst.data.pictures.image import FIRST_PAGE, Reading, read_picture
from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file
from condinst.inference.instances import annotation_files, libraries, records, tables, views
from condinst.inference.instances.boxes import Array, Boxes, Index
from condinst.inference.instances.classes import choose_labels
from condinst.inference.instances.label_image import label_image
from condinst.inference.instances.masks import Masks
from condinst.inference.instances.preview import preview
from condinst.inference.settings import check_score
from condinst.ops.bitmaps.contours import Polygon
from condinst.ops.drawing.draw import draw_overlay
from condinst.ops.drawing.style import ALPHA, OVERLAY_FORMATS, ColorBy, Style, StyleOptions

PREVIEW_SIDE = 4096  # pixels of the longer side
SHOWN_CLASSES = 5  # classes in the `repr` of a result


@dataclass(frozen=True, repr=False)
class Result(Generic[Array]):
    """The instances of one image, best first. Coordinates are pixels of the original image.

        result = condinst.predict("photo.jpg")
        for one in result.filter(conf=0.7, classes="cat"):
            print(one.boxes.xyxy, one.masks.areas)

    boxes: boxes, scores and classes. masks: masks. names: class name for each label. orig_shape: (height, width).
    path: the file, or None for a picture from memory or the web. speed: milliseconds for each of preprocess, inference
    and postprocess. image: the picture, kept only if there is no `path`. name: the picture's name in messages, such as
    its path or address. notes: remarks on how the picture was read. reading: the page and the range of pixel values.
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
        """The polygons of each instance: outer rings and holes along pixel edges. See `Masks.polygons`."""
        return self.masks.polygons

    @property
    def orig_img(self) -> NDArray[np.uint8]:
        """The picture without drawings: (height, width, 3) uint8 RGB (BGR in ultralytics), read again from its file."""
        return self._picture()

    def name_of(self, label: int) -> str:
        """The class name of a label, or the label as text if it has no name."""
        return self.names.get(label, str(label))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Result[Array]:
        """A Result with the chosen instances. index: a number, slice, list, or int or bool array or tensor.

        Raises IndexError for a number out of range or a bool array of another length.
        """
        return replace(self, boxes=self.boxes[index], masks=self.masks[index])

    def __iter__(self) -> Iterator[Result[Array]]:
        return (self[row] for row in range(len(self)))

    def filter(
        self, conf: float | None = None, classes: str | int | Iterable[str | int] | None = None
    ) -> Result[Array]:
        """A Result with the instances of at least the score `conf` and of the given classes, as names or labels.

        Example: `result.filter(conf=0.7, classes=["cat", "dog"])`. Raises UsageError for an unknown class and for a
        score that is not from 0 to 1.
        """
        check_score("conf", conf)
        kept = torch.ones(len(self), dtype=torch.bool)
        if conf is not None:
            kept &= torch.as_tensor(self.conf) >= conf
        if classes is not None:
            labels = torch.tensor(choose_labels(classes, self.names), dtype=torch.int64)
            kept &= torch.isin(torch.as_tensor(self.cls), labels)
        return self[kept]

    def cpu(self) -> Result[Array]:
        """The result itself. Results are always on the CPU."""
        return self

    def numpy(self) -> Result[NDArray[Any]]:
        """The result with NumPy arrays in place of tensors."""
        rest = (self.names, self.orig_shape, self.path, self.speed, self.image, self.name, self.notes, self.reading)
        return Result(self.boxes.numpy(), self.masks.numpy(), *rest)

    @property
    def page(self) -> int | None:
        """The page of the file, counted from 1, or None if none was chosen."""
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
        """A copy with the origin of the picture and the time for each stage."""
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
        result's own picture. For an option that is None, condinst decides for each picture; `Style` gives the rules.
        By default, small pictures are enlarged, and a legend may be added below the picture. `scale=1, legend=False`
        keeps the original size. Raises UsageError if there is no picture, its size differs, or an option is out of
        range.
        """
        style = Style(boxes, masks, labels, conf, color_by, alpha, line_width, font_size, scale, legend)
        picture = self._picture() if image is None else image
        if picture.shape != (*self.orig_shape, 3):
            raise UsageError(f"plot: expected an image of {(*self.orig_shape, 3)}, got {picture.shape}")
        classes, scores = self.boxes.cls.tolist(), self.boxes.conf.tolist()
        tracks = None if self.boxes.id is None else self.boxes.id.tolist()
        places = np.asarray(self.boxes.xyxy)
        return draw_overlay(picture, self.masks.rle, places, classes, scores, self.names, style, tracks)

    def save(self, path: str | Path, **options: Unpack[StyleOptions]) -> Path:
        """Write `plot(**options)` as PNG, JPEG or WebP, by the ending of `path`; returns the path.

        Example: `result.save("overlay.webp", labels=False)`. The file is written completely or not at all. Raises
        UsageError for another ending or a bad option, and CondinstError if the file cannot be written.
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

    def preview(self, longer: int = PREVIEW_SIDE) -> Result[Array]:
        """A smaller copy for overlays of large pictures: boxes, masks and the picture at 1/2, 1/3, … of their size.

            result.preview().save("overlay.png")

        longer: the largest longer side, in pixels. A smaller picture gives the result itself. condinst reads a large
        TIFF part by part. Raises UsageError for a side below 1 and if there is no picture.
        """
        return preview(self, longer)

    def show(self, **options: Unpack[StyleOptions]) -> None:
        """Show `plot(**options)` in a window, or below the cell of a notebook.

        Raises UsageError if there is no viewer.
        """
        views.show(self, options)

    def label_image(self) -> NDArray[np.uint16 | np.uint32]:
        """A label image (height, width): 0 for background, n for the pixels of instance `result[n - 1]`.

        Example: `tifffile.imwrite("cells.tif", result.label_image())`. The dtype is uint16, or uint32 for more than
        65 535 instances. Where masks overlap, the pixel belongs to the instance with the higher score.
        """
        return label_image(self)

    def crops(self, padding: int = 0, alpha: bool = False) -> list[NDArray[np.uint8]]:
        """The part of the picture inside each box: (h, w, 3) uint8 RGB.

        padding: number of pixels added on each side, up to the border of the picture. alpha: return (h, w, 4) RGBA that
        is transparent outside the mask. Raises UsageError for a negative padding or if there is no picture.
        """
        return views.crops(self, padding, alpha)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """A dict for each instance, with the keys of ultralytics: name, class, confidence, box, segments.

        box: x1, y1, x2, y2. segments: lists x and y of the outline `masks.xy`. Values are pixels or, with `normalize`,
        fractions of the image's width and height. decimals: digits after the decimal point.
        """
        return records.summary_records(self, normalize, decimals)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as JSON text."""
        return json.dumps(self.summary(normalize, decimals), ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """The table of `to_df` as CSV text with a header line. Corners have 2 decimals, scores 4."""
        return tables.csv_text(self)

    def to_df(self) -> Any:
        """A pandas DataFrame with a row for each instance: x1, y1, x2, y2, score, label, name, area.

        Corners are in pixels, areas in square pixels. Raises UsageError if pandas is not installed.
        """
        return tables.data_frame(self)

    def to_coco(self, image_id: int = 1, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """COCO result entries: image_id, category_id, bbox (xywh), score, segmentation (RLE), area (mask pixels).

        bbox starts with the top left corner, as COCO defines it. category_ids: the category id of each label; label + 1
        by default. Raises UsageError for a label without an id.
        """
        return records.coco_records(self, image_id, category_ids)

    def to_labelme(self, image_path: str | Path | None = None) -> dict[str, Any]:
        """A labelme document. Write it as JSON beside the picture.

            Path("photo.json").write_text(json.dumps(result.to_labelme()))

        Masks become polygons, or PNG masks if they have holes. Each shape has its score. image_path: the path of the
        picture in the document; by default the name of the file. A picture without a file is stored in the document.
        Instances with an empty mask are left out with a warning. labelme and condinst read the same pixels from it.
        """
        return annotation_files.labelme_annotation(self, image_path)

    def to_geojson(self, pixels: bool = False) -> dict[str, Any]:
        """A GeoJSON FeatureCollection with a feature for each instance, as QuPath and QGIS import it.

            Path("slide.geojson").write_text(json.dumps(result.to_geojson()))

        Masks become polygons along pixel edges with their holes. Coordinates are pixels of the picture, y downwards.
        For a GeoTIFF, they are coordinates of its reference system, and the member "crs" names the system; pixels=True
        keeps pixels.
        The properties of a feature: objectType, classification (name and colour), score, and track_id if known.
        Instances with an empty mask are left out with a warning.
        """
        return annotation_files.geojson(self, pixels)

    def to_yolo(self) -> str:
        """The text of a YOLO segmentation label file: a row "class x1 y1 x2 y2 …" for each instance, in [0, 1].

        A row holds one ring. Cuts without width join the parts and holes of a mask into one ring, so condinst reads the
        same pixels from it. Instances with an empty mask are left out with a warning. The format has no scores.
        """
        return annotation_files.yolo_text(self)

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with boxes, bitmaps, scores, class ids and names.

        Raises UsageError if supervision is not installed.
        """
        return libraries.supervision_detections(self)

    def to_hf(self) -> list[dict[str, Any]]:
        """A dict of score, label and mask for each instance, as the image-segmentation pipeline of transformers.

        label: the class name. mask: a PIL image of mode "L" and the size of the picture, 255 inside and 0 outside.
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
        """The picture that notebooks show."""
        return views.notebook_png(self)

    def _picture(self) -> NDArray[np.uint8]:
        if self.image is not None:
            return self.image
        if self.path is None:
            raise UsageError("plot: this result has neither path nor image; pass the image it was made from")
        return read_picture(self.path, reading=self.reading).pixels
