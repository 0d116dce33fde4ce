"""The classes of a COCO file: category id → name and label."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

from condinst.data.findings import Finding, RecordError
from condinst.data.formats.coco.document import File, as_object, list_records, repeated_id
from condinst.data.formats.records import Record, integer, text


class Categories(NamedTuple):
    """The classes of a file.

    names: the name of each class by its category id, in the order of labels. labels: 0-based, by category id; category
    ids with the same name share a label. left_out: ids of records that could not be read.
    """

    names: dict[int, str]
    labels: dict[int, int]
    left_out: set[int]


def read_categories(document: Record, file: File) -> Categories:
    """Return the classes, in the order of their ids. Raises RecordError if there is no class."""
    found: dict[int, str] = {}
    groups: dict[int, str] = {}
    left_out: set[int] = set()
    for index, record in enumerate(list_records(document, "categories")):
        where, category_id = f"categories[{index}]", None
        try:
            category_id = integer(as_object(record), "id")
            if category_id in found:
                raise repeated_id(category_id)
            found[category_id] = text(record, "name")
            group = record.get("supercategory")
            groups[category_id] = group if isinstance(group, str) else ""
        except RecordError as fault:
            left_out |= set() if category_id is None else {category_id}
            file.report(fault.at(file.path, category_id, where))
    if not found:
        raise RecordError("no-classes", "'categories' is empty", "name at least one class")
    for category_id in _roots(found, groups, _used(document)):
        file.note_counts[
            f"left out the category '{found.pop(category_id)}', because it only names a group of other categories"
        ] += 1
    names, labels = _merge_names(dict(sorted(found.items())), file)
    return Categories(names, labels, left_out)


def _used(document: Record) -> set[int]:
    """Return the category ids in the annotations."""
    used: set[int] = set()
    for record in list_records(document, "annotations"):
        if isinstance(record, dict):
            try:
                used.add(integer(record, "category_id"))
            except RecordError:  # reading the annotation reports the error
                continue
    return used


def _roots(names: Mapping[int, str], groups: Mapping[int, str], used: Set[int]) -> list[int]:
    """Return ids of categories without objects that are the supercategory of another, such as Roboflow's id 0."""
    roots = [
        category_id
        for category_id, name in names.items()
        if category_id not in used and any(group == name for other, group in groups.items() if other != category_id)
    ]
    return roots if len(roots) < len(names) else []


def _merge_names(found: dict[int, str], file: File) -> tuple[dict[int, str], dict[int, int]]:
    """Return names without repetition (the first id stands for all), and category id → label."""
    first: dict[str, int] = {}
    labels: dict[int, int] = {}
    for category_id, name in found.items():
        if name in first:
            message = f"'categories' gives two ids the same name: {first[name]} and {category_id} are both '{name}'"
            file.report(Finding("duplicate-class", "error", file.path, category_id, message, "rename or merge them"))
        labels[category_id] = list(first).index(name) if name in first else len(first)
        first.setdefault(name, category_id)
    return {category_id: name for name, category_id in first.items()}, labels
