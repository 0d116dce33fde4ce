"""Pictures to measure on, held out of the training data where there is no validation data."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from condinst.data.sample import AnnotatedData
from condinst.doctor.divide import Progress, Wish, choose_groups, group_alike, one_sided, take
from condinst.engine.run_folder.log import damaged, unwritable
from condinst.engine.run_folder.own_files import HELD_OUT
from condinst.files import replace_file
from condinst.strict_json import parse_json

HELD_OUT_WISH = Wish(share=0.15, least=0.1, most=0.2)


class Held(NamedTuple):
    """train, val: the data to train and to measure on; val is None if no picture is held out. lines: printed text."""

    train: AnnotatedData
    val: AnnotatedData | None
    lines: tuple[str, ...]


def hold_out(data: AnnotatedData, seed: int, progress: Progress | None = None) -> Held:
    """Hold out a tenth to a fifth of the pictures, at random by `seed`.

    Copies of a picture and pictures much alike stay together; each class that can be is on both sides.
    """
    if not any(not one.crowd for sample in data.samples for one in sample.instances):
        return Held(data, None, ())  # whoever trains on it says what is wrong
    groups = group_alike(data.samples, progress)
    chosen = choose_groups(data, groups.groups, HELD_OUT_WISH, seed)
    if not chosen:
        return Held(data, None, (_reason(data, groups.groups),))
    indices = {index for group in chosen for index in group}
    val, train = take(data, list(indices)), take(data, [i for i in range(len(data.samples)) if i not in indices])
    lines = [
        f"held out: {len(val.samples)} of {len(data.samples)} pictures for validation, because there is no validation "
        "data; similar pictures stay together; --val none trains on all pictures",
        *(f"note: {note}" for note in one_sided(data, {"the held-out part": val, "the training part": train})),
    ]
    if groups.exact_only:
        lines.append("note: too many pictures to compare all; only identical ones stay together")
    return Held(train, val, tuple(lines))


def _reason(data: AnnotatedData, groups: Sequence[Sequence[int]]) -> str:
    """Return the reason for holding out nothing."""
    few = len(data.samples) * HELD_OUT_WISH.most < 1
    if few:
        why = f"{len(data.samples)} pictures are too few"
    elif max(map(len, groups)) > len(data.samples) / 2:
        why = f"{max(map(len, groups))} of the {len(data.samples)} pictures are similar"
    else:
        why = "no division leaves every class on both sides"
    return f"note: no pictures are held out for validation ({why}); give --val DATA, or confirm with --val none"


def record_held_out(folder: Path, val: AnnotatedData | None, resume: bool) -> None:
    """Write which pictures are held out, for `hold_out_again`. Raises CondinstError if that cannot be written."""
    path = folder / HELD_OUT
    try:
        if val is not None:
            replace_file(path, (json.dumps(held_names(val), indent=1, ensure_ascii=False) + "\n").encode())
        elif not resume:
            path.unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
    except OSError as error:
        raise unwritable(path, error) from error


def held_names(data: AnnotatedData) -> list[str]:
    """The pictures of `data`, named from its source on."""
    root = data.source if data.source.is_dir() else data.source.parent
    return sorted({Path(os.path.relpath(sample.path, root)).as_posix() for sample in data.samples})


def hold_out_again(data: AnnotatedData, folder: Path) -> Held | None:
    """Return the pictures that an earlier start of the run in `folder` held out; None if it held out none.

    Raises CondinstError for a damaged file.
    """
    path = folder / HELD_OUT
    if not path.exists():
        return None
    try:
        names = parse_json(path.read_bytes())
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError("it does not list pictures")
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    root = data.source if data.source.is_dir() else data.source.parent
    held = set(names)
    inside = [Path(os.path.relpath(sample.path, root)).as_posix() in held for sample in data.samples]
    val = take(data, [index for index, one in enumerate(inside) if one])
    train = take(data, [index for index, one in enumerate(inside) if not one])
    if not val.samples:
        raise damaged(path, "none of its pictures is in the data")
    lines = [f"held out: {len(val.samples)} of {len(data.samples)} pictures for validation, listed in {path}"]
    if len(held_names(val)) < len(held):
        lines.append(f"note: {len(held) - len(held_names(val))} held-out pictures are no longer in the data")
    return Held(train, val, tuple(lines))
