"""Writes a data set divided into train, val and test, as a new folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from condinst.data.formats.convert import WRITERS, Converted, Target, Written
from condinst.data.formats.new_folder import check_new, new_folder
from condinst.data.open import list_splits, open_data
from condinst.doctor.divide import Progress, Wish, divide, group_alike, one_sided
from condinst.errors import DataError, UsageError, some

NEAR = 0.5  # share of the wanted share by which a part may miss it


def split_data(
    source: Path,
    out: Path,
    target: Target,
    shares: dict[str, float],
    seed: int,
    images: Path | None = None,
    link: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write the data set at `source`, divided at random by `seed`, to the new folder `out`.

    shares: of the pictures, 0 to 1, for each part except train. Pictures that are copies of each other or much alike
    stay in one part. Each class is in every part, as far as possible. Raises UsageError if the shares leave nothing to
    train on, if `source` is already divided, and if `out` is not empty; DataError for data that cannot be read or
    divided; CondinstError if `out` cannot be written.
    """
    wanted = {name: share for name, share in shares.items() if share != 0}
    if not wanted or not all(0 < share < 1 for share in wanted.values()) or sum(wanted.values()) >= 1:
        given = " ".join(f"--{name} {share:g}" for name, share in shares.items())
        raise UsageError(f"{given}: give shares from 0 to 1 that leave pictures for training")
    check_new(out)
    splits = list_splits(source)
    if len(splits) > 1:
        raise UsageError(
            f"{source}: is already divided into {some(list(splits))}; name the annotation file or folder of one part, "
            "or write all parts with: condinst data convert"
        )
    data = open_data(source, splits[0] if splits else "train", images)
    groups = group_alike(data.samples, progress)
    parts = divide(data, groups, {name: _wish(share) for name, share in wanted.items()}, seed)
    for name, share in wanted.items():
        if name not in parts:
            raise DataError(
                f"{source}: no pictures are left for {name} ({share:.0%} of {len(data.samples)}, in "
                f"{len(groups.groups)} groups of similar pictures); choose another share, or add pictures"
            )
    note_counts: Counter[str] = Counter()
    with new_folder(out) as folder:
        WRITERS[target](parts, folder, link, note_counts)
    notes = [*data.notes, *(f"{count} {what}" for what, count in note_counts.items() if count), *one_sided(data, parts)]
    alike = len(data.samples) - len(groups.groups)
    if alike:
        notes.append(f"similar pictures, kept in the same part: {alike}")
    if groups.exact_only:
        notes.append("too many pictures to compare; only identical ones are kept in one part")
    written = (
        Written(name, len(part.samples), sum(len(one.instances) for one in part.samples))
        for name, part in parts.items()
    )
    return Converted(tuple(written), tuple(notes))


def _wish(share: float) -> Wish:
    return Wish(share, share * (1 - NEAR), min(share * (1 + NEAR), (1 + share) / 2))
