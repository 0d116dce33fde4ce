"""A picture inside a labelme file (imageData, in base64), for data sets whose picture files were left behind."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from PIL import UnidentifiedImageError

BYTES_PER_PIXEL = 8  # three colours of 16 bits, not compressed, in base64


def may_embed(path: Path) -> bool:
    """Whether a picture's path is that of a file which holds the picture among other things."""
    return path.suffix.lower() == ".json"


def embedded_picture(file: Path, max_pixels: int) -> bytes:
    """The encoded picture. Raises UnidentifiedImageError where there is none, ValueError for a file that is too large
    or no base64."""
    if file.stat().st_size > BYTES_PER_PIXEL * max_pixels:
        raise ValueError(f"a JSON file of {file.stat().st_size:,} bytes holds more than {max_pixels:,} pixels")
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise UnidentifiedImageError from None
    content = document.get("imageData") if isinstance(document, dict) else None
    if not isinstance(content, str):
        raise UnidentifiedImageError
    return base64.b64decode(content, validate=True)
