"""Reads a picture inside a labelme file (imageData, in base64), for data sets without picture files."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import UnidentifiedImageError

from condinst.strict_json import parse_json

BYTES_PER_PIXEL = 8  # three colours of 16 bits, uncompressed, in base64


def may_embed(path: Path) -> bool:
    """Return whether the path of a picture is a labelme file with the picture inside."""
    return path.suffix.lower() == ".json"


def embedded_picture(file: Path, max_pixels: int) -> bytes:
    """Return the encoded picture.

    Raises UnidentifiedImageError if there is no picture, and ValueError for a file that is too large or is not base64.
    """
    if file.stat().st_size > BYTES_PER_PIXEL * max_pixels:
        raise ValueError(f"a JSON file of {file.stat().st_size:,} bytes holds more than {max_pixels:,} pixels")
    try:
        document = parse_json(file.read_bytes())
    except (ValueError, RecursionError):
        raise UnidentifiedImageError from None
    content = document.get("imageData") if isinstance(document, dict) else None
    if not isinstance(content, str):
        raise UnidentifiedImageError
    return base64.b64decode(content, validate=True)
