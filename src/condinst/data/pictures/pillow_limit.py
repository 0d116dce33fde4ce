"""Lift Pillow's limit on pixels while condinst opens or loads a picture.

Pillow has one limit for the whole process, and refuses a TIFF above it as an attack. condinst checks the size of each
picture itself (see `check_size`), by a limit that the caller can change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image


class _Lifted:
    """Pillow's limit, and how many threads have lifted it now. The last of them sets it again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.limit: int | None = None


_lifted = _Lifted()


@contextmanager
def without_limit() -> Iterator[None]:
    """Lift Pillow's limit inside. Several threads may be inside."""
    with _lifted.lock:
        if not _lifted.threads:
            _lifted.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _lifted.threads += 1
    try:
        yield
    finally:
        with _lifted.lock:
            _lifted.threads -= 1
            if not _lifted.threads:
                Image.MAX_IMAGE_PIXELS = _lifted.limit


def load_pixels(image: Image.Image) -> None:
    """Decode an image whose size `check_size` has checked."""
    with without_limit():
        image.load()
