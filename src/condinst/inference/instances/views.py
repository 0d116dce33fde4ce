"""Pictures of a result: crops, and pictures for windows and notebooks."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageShow

from condinst.errors import CondinstError, UsageError
from condinst.inference.instances.pixels import parts
from condinst.ops.bitmaps.rle import crop as crop_region
from condinst.ops.bitmaps.rle import decode_region
from condinst.ops.drawing.style import StyleOptions

if TYPE_CHECKING:
    from condinst.inference.result import Result

NOTEBOOK_SIDE = 1024  # longer side of a picture in a notebook, in pixels


def crops(result: Result[Any], padding: int, alpha: bool) -> list[NDArray[np.uint8]]:
    """The part of the picture inside each box; see `Result.crops`."""
    if padding < 0:
        raise UsageError(f"crops: expected a padding of at least 0 pixels, got {padding}")
    height, width = result.orig_shape
    found = []
    with parts(result) as part:
        for (x1, y1, x2, y2), rle in zip(result.boxes.xyxy.tolist(), result.masks.rle, strict=True):
            left, top = max(math.floor(x1) - padding, 0), max(math.floor(y1) - padding, 0)
            right, bottom = min(math.ceil(x2) + padding, width), min(math.ceil(y2) + padding, height)
            crop = part(left, top, right, bottom)
            if alpha:
                mask = np.zeros(crop.shape[:2], dtype=np.bool_)
                inside = crop_region(decode_region(rle), left, top, right, bottom)
                rows, columns = inside.bitmap.shape
                y, x = inside.y - top, inside.x - left
                mask[y : y + rows, x : x + columns] = inside.bitmap
                crop = np.concatenate((crop, mask[..., None] * np.uint8(255)), axis=2)
            found.append(np.ascontiguousarray(crop))
    return found


def show(result: Result[Any], options: StyleOptions) -> None:
    """Open the picture in a window, or below the cell of a notebook; see `Result.show`."""
    image = Image.fromarray(result.plot(**options))
    notebook = _notebook()
    if notebook is not None:
        notebook(image)
    elif not ImageShow.show(image):
        raise UsageError("show: this machine has no program that shows pictures; use save('overlay.png')")


def notebook_png(result: Result[Any]) -> bytes | None:
    """A PNG of the picture with its instances, or None without a picture. A notebook then shows the text."""
    try:
        large = max(result.orig_shape) > NOTEBOOK_SIDE
        image = Image.fromarray(result.plot(scale=NOTEBOOK_SIDE / max(result.orig_shape) if large else None))
    except CondinstError:
        return None
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _notebook() -> Any:
    """The function that shows a picture in the current notebook, or None outside a notebook."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None
