"""Writes a repaired data set as a COCO folder, whole or not at all. The original is only read."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condinst.data.formats.coco.write import new_names, write_coco
from condinst.data.formats.new_folder import new_folder, own_name
from condinst.data.pictures.decode import upright_values
from condinst.data.pictures.image import MAX_PIXELS, read_image, read_orientation
from condinst.data.pictures.picture_file import opened
from condinst.data.pictures.tiff import TiffArray
from condinst.data.pictures.values import is_wide
from condinst.data.sample import AnnotatedData
from condinst.doctor.repair import Change

CHANGES = "changes.json"
LEGAL = ("LICENSE*", "LICENCE*", "NOTICE*")  # copied with the pictures


def write_copy(splits: Mapping[str, AnnotatedData], changes: list[Change], source: Path, out: Path) -> list[Change]:
    """Write `<split>.json`, images/ and changes.json to `out`; returns all changes, including changes of picture files.

    Raises UsageError for a folder that is not empty, CondinstError if it cannot be written.
    """
    with new_folder(out) as folder:
        aside = folder / "upright"
        turned: dict[Path, Path] = {}
        for path in {sample.path: None for data in splits.values() for sample in data.samples}:
            if (orientation := read_orientation(path)) != 1:
                turned[path] = aside / str(len(turned)) / f"{path.stem}.png"
                turned[path] = _save_upright(path, turned[path])
                kind = turned[path].suffix[1:].upper()
                what = f"turned upright from EXIF orientation {orientation} and saved as {kind}"
                changes = [*changes, Change("exif-rotated", path, None, what)]
        moved = {name: _moved(data, turned) for name, data in splits.items()}
        changes = [*changes, *_renamed(splits, moved)]
        write_coco(moved, folder, False, Counter())
        shutil.rmtree(aside, ignore_errors=True)
        document = {"source": str(source), "changes": [listed(change, source) for change in changes]}
        text = json.dumps(document, ensure_ascii=False, indent=1)
        # JSON escapes the bytes of a path that are no UTF-8
        (folder / CHANGES).write_text(text, encoding="utf-8", errors="backslashreplace")
        for file in [file for pattern in LEGAL if source.is_dir() for file in source.glob(pattern)]:
            shutil.copyfile(file, folder / file.name)
    return changes


def _renamed(splits: Mapping[str, AnnotatedData], moved: Mapping[str, AnnotatedData]) -> Iterator[Change]:
    """Return the pictures that cannot keep their name, because the name is taken or is no text."""
    for split, names in new_names(moved).items():
        for sample, before, name in zip(splits[split].samples, moved[split].samples, names, strict=True):
            if name != own_name(before.path).name:
                yield Change("picture-name", sample.path, sample.image_id, f"is called {name} in the copy")


def listed(change: Change, source: Path) -> dict[str, Any]:
    """Return a change as JSON. Files inside the data set get relative paths."""
    root = source if source.is_dir() else source.parent
    file = change.file.relative_to(root) if change.file.is_relative_to(root) else change.file
    return {"kind": change.kind, "file": file.as_posix(), "id": change.id, "change": change.what}


def _save_upright(path: Path, target: Path) -> Path:
    """Write a picture without loss: grey pictures of more than 8 bits as TIFF. Returns the path of the file."""
    target.parent.mkdir(parents=True)
    with opened(path, str(path), MAX_PIXELS) as image:
        if isinstance(image, TiffArray):
            from tifffile import imwrite  # Pillow writes no 64-bit numbers

            target = target.with_suffix(".tif")
            imwrite(target, upright_values(image))
            return target
        if is_wide(image):
            image.load()
            values = upright_values(image)
            values = values.astype(values.dtype.newbyteorder("="))
            if values.dtype in (np.uint16, np.int32, np.float32):
                target = target.with_suffix(".tif")
                Image.fromarray(values).save(target)
                return target
    Image.fromarray(read_image(path)).save(target)
    return target


def _moved(data: AnnotatedData, places: Mapping[Path, Path]) -> AnnotatedData:
    """Return the same samples, with some files at other paths."""
    samples = tuple(replace(sample, path=places.get(sample.path, sample.path)) for sample in data.samples)
    return replace(data, samples=samples)
