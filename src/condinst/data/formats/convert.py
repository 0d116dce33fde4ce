"""Converts one annotation format to another, as a new folder with the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from condinst.data.formats.coco.write import write_coco
from condinst.data.formats.labelme.write import write_labelme
from condinst.data.formats.new_folder import new_folder
from condinst.data.formats.splits import WHOLE, without_repeats
from condinst.data.formats.yolo.write import write_yolo
from condinst.data.open import find_source
from condinst.data.sample import AnnotatedData
from condinst.errors import UsageError

Target = Literal["coco", "yolo", "labelme"]
Write = Callable[[Mapping[str, AnnotatedData], Path, bool, Counter[str]], None]
WRITERS: dict[Target, Write] = {"coco": write_coco, "yolo": write_yolo, "labelme": write_labelme}
UNCHECKED = "pictures lose their list of annotated classes (neg_category_ids); only COCO stores this list"


class Written(NamedTuple):
    """name: of the split, "all" without splits. pictures, instances: how many were read."""

    name: str
    pictures: int
    instances: int


class Converted(NamedTuple):
    """written: for each split. notes: one sentence for each thing left out or not supported by the new format."""

    written: tuple[Written, ...]
    notes: tuple[str, ...]


def convert_data(
    source: Path, out: Path, target: Target, split: str | None = None, images: Path | None = None, link: bool = False
) -> Converted:
    """Write the data set at `source`, or one `split` of it, to the new folder `out`.

    images: folder of the pictures if they lie elsewhere. link: use symbolic links instead of copies of the pictures.

    Raises DataError for data that cannot be read, UsageError if `out` is not empty or the split does not exist, and
    CondinstError if `out` cannot be written. After an error, `out` is unchanged.
    """
    found = find_source(source)
    splits = found.splits
    if split and not splits:
        raise UsageError(f"{source}: is not split into train and val; leave --split out")
    chosen = (split,) if split else splits or (WHOLE,)
    read = {each: found.read(each, images) for each in chosen}
    unread = found.count_unread(read, images)
    parts, repeated = without_repeats(read)
    note_counts: Counter[str] = Counter()
    if target != "coco":
        note_counts[UNCHECKED] = sum(sample.federated is not None for data in parts.values() for sample in data.samples)
    with new_folder(out) as folder:
        WRITERS[target](parts, folder, link, note_counts)
    written = tuple(
        Written(name, len(data.samples), sum(len(sample.instances) for sample in data.samples))
        for name, data in parts.items()
    )
    notes = [*(note for data in parts.values() for note in data.notes), *repeated, *unread]
    return Converted(written, (*notes, *(f"{count} {what}" for what, count in note_counts.items() if count)))
