"""What a picture holds: boxes and masks of its instances, in the original image's pixels. K instances, best first.

Masks are kept as RLE; bitmaps, polygons, pictures and tables are made on request.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from condinst.data.image import read_image
from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file
from condinst.ops.contours import Polygon, trace
from condinst.ops.drawing.draw import draw_instances
from condinst.ops.rle import Rle, areas, decode, decode_region

Index = int | slice | Sequence[int] | Sequence[bool] | NDArray[Any] | Tensor


@dataclass(frozen=True)
class Boxes:
    """xyxy: (K, 4) float32 pixels, inside the image. conf: (K,) float32 in [0, 1]. cls: (K,) int64, keys of `names`."""

    xyxy: Tensor
    conf: Tensor
    cls: Tensor

    def __len__(self) -> int:
        return len(self.conf)


@dataclass(frozen=True)
class Masks:
    """rle: K COCO dicts, JSON as they stand. orig_shape: (height, width) of every mask."""

    rle: tuple[Rle, ...]
    orig_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rle)

    @property
    def data(self) -> Tensor:
        """Bitmaps (K, height, width) bool, decoded now."""
        bitmaps = torch.zeros(len(self.rle), *self.orig_shape, dtype=torch.bool)
        for bitmap, rle in zip(bitmaps, self.rle, strict=True):
            bitmap.copy_(torch.from_numpy(decode(rle)))
        return bitmaps

    @property
    def polygons(self) -> list[list[Polygon]]:
        """Per instance its parts: outer rings and holes along pixel edges, covering exactly the mask's pixels."""
        return [trace(*decode_region(rle)) for rle in self.rle]

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels in each mask: (K,)."""
        return areas(self.rle)


@dataclass(frozen=True)
class Result:
    """The instances of one image. `image` is kept only where there is no `path` to read it from again.

    names: class names by label. orig_shape: (height, width). speed: milliseconds by stage, preprocess, inference
    and postprocess.
    """

    boxes: Boxes
    masks: Masks
    names: dict[int, str]
    orig_shape: tuple[int, int]
    path: Path | None = None
    speed: dict[str, float] = field(default_factory=dict)
    image: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Result:
        """The chosen instances as a Result: by number, slice, list, int or bool array or tensor. Raises IndexError."""
        rows = _rows(index, len(self))
        boxes = Boxes(self.boxes.xyxy[rows], self.boxes.conf[rows], self.boxes.cls[rows])
        masks = Masks(tuple(self.masks.rle[row] for row in rows.tolist()), self.orig_shape)
        return replace(self, boxes=boxes, masks=masks)

    def of(self, path: Path | None, image: NDArray[np.uint8] | None, speed: dict[str, float]) -> Result:
        """The same instances, knowing where their picture came from and how long it took."""
        return replace(self, path=path, image=image, speed=speed)

    def __iter__(self) -> Iterator[Result]:
        return (self[row] for row in range(len(self)))

    def plot(self, image: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture with its instances drawn in: (height, width, 3) uint8 RGB.

        `image` stands in for the result's own. Raises UsageError if there is none or its size is another.
        """
        picture = self._picture() if image is None else image
        if picture.shape != (*self.orig_shape, 3):
            raise UsageError(f"plot: expected an image of {(*self.orig_shape, 3)}, got {picture.shape}")
        labels = self.boxes.cls.tolist()
        captions = [
            f"{self.names.get(label, label)} {score:.2f}"
            for label, score in zip(labels, self.boxes.conf.tolist(), strict=True)
        ]
        kinds = labels if len(self.names) > 1 else None
        return draw_instances(picture, self.masks.rle, self.boxes.xyxy.numpy(), captions, kinds)

    def save(self, path: str | Path) -> Path:
        """Write `plot()` as PNG or JPEG by the ending, whole or not at all. Raises UsageError, CondinstError."""
        target = Path(path)
        kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(target.suffix.lower())
        if kind is None:
            raise UsageError(f"{target}: the ending must be .png, .jpg or .jpeg")
        encoded = io.BytesIO()
        Image.fromarray(self.plot()).save(encoded, kind, quality=92)
        try:
            replace_file(target, encoded.getvalue())
        except OSError as error:
            raise CondinstError(f"{target}: cannot be written ({error.strerror or error})") from None
        return target

    def to_coco(self, image_id: int = 1, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """COCO result entries: image_id, category_id, bbox (xywh), score, segmentation (RLE), area (mask pixels).

        category_ids: the id of each label that occurs; label + 1 if not given.
        """
        labels = self.boxes.cls.tolist()
        ids = {label: label + 1 for label in labels} if category_ids is None else category_ids
        unknown = sorted(set(labels) - set(ids))
        if unknown:
            raise UsageError(f"to_coco: category_ids has no id for label {unknown[0]} ({self.names.get(unknown[0])})")
        corners = self.boxes.xyxy.double()
        bboxes = torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1).tolist()
        rows = zip(labels, bboxes, self.boxes.conf.tolist(), self.masks.rle, self.masks.areas.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": ids[label],
                "bbox": bbox,
                "score": score,
                "segmentation": rle,
                "area": area,
            }
            for label, bbox, score, rle, area in rows
        ]

    def to_df(self) -> Any:
        """A pandas DataFrame, a row an instance: x1, y1, x2, y2, score, label, name, area.

        Raises UsageError where pandas is not installed.
        """
        labels = self.boxes.cls.tolist()
        columns = {
            **dict(zip(("x1", "y1", "x2", "y2"), self.boxes.xyxy.T.numpy(), strict=True)),
            "score": self.boxes.conf.numpy(),
            "label": labels,
            "name": [self.names.get(label, str(label)) for label in labels],
            "area": self.masks.areas,
        }
        return _optional("pandas", "to_df").DataFrame(columns)

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with boxes, bitmaps, scores, class ids and names. Raises UsageError without it."""
        labels = self.boxes.cls.numpy()
        return _optional("supervision", "to_supervision").Detections(
            xyxy=self.boxes.xyxy.numpy().reshape(-1, 4),
            mask=self.masks.data.numpy(),
            confidence=self.boxes.conf.numpy(),
            class_id=labels,
            data={"class_name": np.array([self.names.get(int(label), str(label)) for label in labels], dtype=str)},
        )

    def _picture(self) -> NDArray[np.uint8]:
        if self.image is not None:
            return self.image
        if self.path is None:
            raise UsageError("plot: this result has neither path nor image; pass the image it was made from")
        return read_image(self.path)


def _rows(index: Index, count: int) -> Tensor:
    """Chosen row numbers (int64). Raises IndexError for what lies outside or a bool mask of another length."""
    if isinstance(index, int | np.integer):
        if not -count <= index < count:
            raise IndexError(f"instance {index} of a result with {count}")
        return torch.tensor([int(index) % count])
    if isinstance(index, slice):
        return torch.arange(count)[index]
    chosen = torch.as_tensor(index).cpu()
    return torch.arange(count)[chosen if chosen.numel() else chosen.long()].reshape(-1)


def _optional(module: str, method: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f"{method}() needs {module}, which is not installed: pip install {module}") from None
