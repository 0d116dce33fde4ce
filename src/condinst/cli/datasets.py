"""Which annotation file and image folder the options mean."""

from __future__ import annotations

from pathlib import Path

from condinst.errors import DataError


def locate(data: Path, images: Path | None, split: str) -> tuple[Path, Path]:
    """(annotation file, image folder) of `data`: a COCO file, or a folder that holds `split`.json and images/.

    Without `images`, the folder `images` beside the annotation file. Raises DataError for what does not exist.
    """
    annotations = data / f"{split}.json" if data.is_dir() else data
    if not annotations.is_file():
        raise DataError(f"{annotations}: no such annotation file; give a COCO JSON file or a folder with {split}.json")
    folder = annotations.parent / "images" if images is None else images
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images; give it with --images")
    return annotations, folder
