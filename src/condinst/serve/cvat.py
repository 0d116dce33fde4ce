"""An auto-annotation function for CVAT: it draws the objects of a task with a model.

    cvat-cli task auto-annotate 137 --function-module condinst.serve.cvat -p model=str:nuclei

CVAT's command calls `create` with the parameters behind -p. Nothing is sent anywhere but to CVAT. Needs `cvat-cli`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from condinst.errors import UsageError
from condinst.inference.network import Mode
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Rle, decode_region
from condinst.predictor import Predictor
from condinst.serve.outlines import TOLERANCE, outlines

try:
    from cvat_sdk import auto_annotation as cvat
    from cvat_sdk.masks import encode_mask
except ImportError:
    raise UsageError("condinst.serve.cvat needs cvat-sdk: pip install cvat-cli") from None

if TYPE_CHECKING:
    from PIL import Image

SHAPES = ("mask", "polygon")


class Function:
    """A detection function, as `cvat_sdk.auto_annotation` defines it. Its labels are the classes of the model."""

    def __init__(self, predictor: Predictor, shapes: str, tolerance: float) -> None:
        self.predictor, self.shapes, self.tolerance = predictor, shapes, tolerance
        self.spec = cvat.DetectionFunctionSpec(
            labels=[cvat.label_spec(name, label, type=shapes) for label, name in predictor.names.items()]
        )

    def detect(self, context: Any, image: Image.Image) -> Sequence[Any]:
        """The shapes of a picture, best first. An instance of several parts becomes a group of polygons."""
        result = self.predictor(image, conf=context.conf_threshold)
        as_polygons = self.shapes == "polygon" or context.conv_mask_to_poly
        return list(self._polygons(result) if as_polygons else _masks(result))

    def _polygons(self, result: Result) -> Iterator[Any]:
        for group, (label, parts) in enumerate(zip(result.boxes.cls.tolist(), result.polygons, strict=True), 1):
            rings = outlines(parts, self.tolerance)
            for ring in rings:
                yield cvat.polygon(label, ring.ravel().tolist(), group=group if len(rings) > 1 else 0)


def create(
    model: str = "nuclei",
    shapes: str = "mask",
    conf: float = 0.5,
    device: str | None = None,
    mode: Mode | None = None,
    tolerance: float = TOLERANCE,
    tile: int | str | None = None,
    overlap: float | None = None,
) -> Function:
    """Create the function for CVAT. An instance without a single pixel is left out.

    model, conf, device, mode, tile, overlap: as for `Predictor`; CVAT's --conf-threshold replaces conf. shapes: "mask",
    or "polygon" for outlines without holes. tolerance: most distance in pixels between a polygon and the edge of the
    mask. Raises UsageError and ModelError.
    """
    if shapes not in SHAPES:
        raise UsageError(f"shapes: expected {' or '.join(SHAPES)}, got {shapes!r:.60}")
    if not tolerance >= 0:
        raise UsageError(f"tolerance: expected a number of pixels from 0 on, got {tolerance!r:.60}")
    return Function(Predictor(model, device, conf, mode=mode, tile=tile, overlap=overlap), shapes, tolerance)


def _masks(result: Result) -> Iterator[Any]:
    for label, rle in zip(result.boxes.cls.tolist(), result.masks.rle, strict=True):
        if points := mask_points(rle):
            yield cvat.mask(label, points)


def mask_points(rle: Rle) -> list[float]:
    """CVAT's code of a mask: the lengths of the runs inside its box, then the box. An empty list for an empty mask."""
    bitmap, x, y = decode_region(rle)
    if not bitmap.size:
        return []
    *runs, left, top, right, bottom = encode_mask(bitmap)
    return [*runs, left + x, top + y, right + x, bottom + y]
