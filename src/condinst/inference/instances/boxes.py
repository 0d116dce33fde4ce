"""Boxes, scores and classes of K instances, with the names and coordinates of ultralytics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import TypeVar

Array = TypeVar("Array", bound=Tensor | NDArray[Any], default=Tensor)
Index = int | slice | Sequence[int] | Sequence[bool] | NDArray[Any] | Tensor


@dataclass(frozen=True, repr=False)
class Boxes(Generic[Array]):
    """Boxes, scores and classes of K instances, best first.

    xyxy: (K, 4) float32 in pixels, inside the image. conf: (K,) float32, scores in [0, 1]. cls: (K,) int64, labels, the
    keys of `Result.names`. orig_shape: (height, width) of the image. id: (K,) int64, the number of the track that each
    instance belongs to, from 1; None without tracking. Arrays are torch tensors on the CPU, and NumPy arrays after
    `boxes.numpy()`. `for box in boxes` yields a Boxes with one row for each instance.
    """

    xyxy: Array
    conf: Array
    cls: Array
    orig_shape: tuple[int, int]
    id: Array | None = None

    @property
    def is_track(self) -> bool:
        """Whether the instances have the numbers of tracks."""
        return self.id is not None

    @property
    def xywh(self) -> Array:
        """(K, 4) float32 pixels: x and y of the CENTRE, then width and height, as in ultralytics.

        COCO's bbox starts with the top left corner instead; use `Result.to_coco` for it.
        """
        return self._like(_centred(torch.as_tensor(self.xyxy)))

    @property
    def xyxyn(self) -> Array:
        """(K, 4) float32 in [0, 1]: `xyxy` divided by the image's width and height."""
        return self._like(torch.as_tensor(self.xyxy) / self._scale())

    @property
    def xywhn(self) -> Array:
        """(K, 4) float32 in [0, 1]: `xywh` divided by the image's width and height."""
        return self._like(_centred(torch.as_tensor(self.xyxy)) / self._scale())

    @property
    def data(self) -> Array:
        """(K, 6) float32: x1, y1, x2, y2 in pixels, score, class; (K, 7) with tracks: the id before the score."""
        parts = (self.conf, self.cls) if self.id is None else (self.id, self.conf, self.cls)
        columns = [torch.as_tensor(part).float()[:, None] for part in parts]
        return self._like(torch.cat([torch.as_tensor(self.xyxy), *columns], dim=1))

    def cpu(self) -> Boxes[Array]:
        """The boxes themselves. They are always on the CPU."""
        return self

    def numpy(self) -> Boxes[NDArray[Any]]:
        """The boxes with NumPy arrays in place of tensors."""
        xyxy, conf, cls = (torch.as_tensor(part).numpy() for part in (self.xyxy, self.conf, self.cls))
        return Boxes(xyxy, conf, cls, self.orig_shape, None if self.id is None else torch.as_tensor(self.id).numpy())

    def with_id(self, id: Tensor) -> Boxes[Array]:
        """The boxes with the numbers of tracks, (K,) int64."""
        return replace(self, id=self._like(id))

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, index: Index) -> Boxes[Array]:
        """The boxes in the chosen rows. index: as for `Result`. Raises IndexError."""
        rows: Any = choose_rows(index, len(self))
        rows = rows.numpy() if isinstance(self.conf, np.ndarray) else rows
        xyxy, conf, cls = (cast(Array, part[rows]) for part in (self.xyxy, self.conf, self.cls))
        return replace(self, xyxy=xyxy, conf=conf, cls=cls, id=None if self.id is None else cast(Array, self.id[rows]))

    def __iter__(self) -> Iterator[Boxes[Array]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Boxes({len(self)} in {width}×{height} pixels)"

    def _scale(self) -> Tensor:
        height, width = self.orig_shape
        return torch.tensor([width, height, width, height], dtype=torch.float32)

    def _like(self, values: Tensor) -> Array:
        return cast(Array, values.numpy() if isinstance(self.conf, np.ndarray) else values)


def choose_rows(index: Index, count: int) -> Tensor:
    """The chosen row numbers (int64). Raises IndexError for a number out of range or a bool mask of another length."""
    if isinstance(index, int | np.integer):
        if not -count <= index < count:
            raise IndexError(f"instance {index} of a result with {count}")
        return torch.tensor([int(index) % count])
    if isinstance(index, slice):
        return torch.arange(count)[index]
    chosen = _as_rows(index)
    return torch.arange(count)[chosen if chosen.numel() else chosen.long()].reshape(-1)


def _as_rows(index: Any) -> Tensor:
    """An int or bool tensor of `index`. Raises IndexError for another type."""
    try:
        chosen = torch.as_tensor(index).cpu()
    except (TypeError, ValueError, RuntimeError):
        chosen = None
    if chosen is None or (chosen.numel() and (chosen.is_floating_point() or chosen.is_complex())):
        hint = "; filter(classes=...) chooses by class" if isinstance(index, str) else ""
        raise IndexError(f"instances: expected a number, slice, list, or int or bool array, got {index!r:.60}{hint}")
    return chosen


def _centred(xyxy: Tensor) -> Tensor:
    return torch.cat(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]), dim=1)
