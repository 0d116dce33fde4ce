"""Read a picture file. The code is in `condinst.data.pictures`; programs outside the package import it from here."""

from __future__ import annotations

from condinst.data.pictures.image import MAX_PIXELS, Page, list_images, read_image, read_orientation, read_size

__all__ = ["MAX_PIXELS", "Page", "list_images", "read_image", "read_orientation", "read_size"]
