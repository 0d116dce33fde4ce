"""Match the classes of a model with those of a data set, by name."""

from __future__ import annotations

from collections.abc import Iterable

from condinst.data.class_names import same_class_name
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError, some


def match_classes(names: dict[int, str], data: AnnotatedData) -> tuple[dict[int, int], tuple[str, ...]]:
    """The data set's category id for each label of the model, by class name, and notes for the reader.

    If model and data set have one class each, the classes match under any names. Classes that only the model has are
    left out with a note, and so are classes of the data set without objects. Raises DataError for any other class of
    the data set that the model does not have.
    """
    if len(names) == len(data.classes) == 1:
        mine, theirs = next(iter(names.values())), data.classes[0]
        note = f"the model's one class '{mine}' is measured as the data set's '{theirs}'"
        return {next(iter(names)): data.category_ids[0]}, () if mine == theirs else (note,)
    ids = dict(zip(data.classes, data.category_ids, strict=True))
    used = {instance.label for sample in data.samples for instance in sample.instances}
    absent = [name for name in data.classes if name not in names.values()]
    unknown = [name for label, name in enumerate(data.classes) if name in absent and label in used]
    if unknown:
        raise DataError(
            f"{data.source}: the model lacks the classes {_quoted(unknown)}; it has {_quoted(names.values())}; "
            f"{_other_spellings(unknown, names.values())}rename the categories or take another model"
        )
    extra = [name for name in names.values() if name not in ids]
    notes: tuple[str, ...] = (
        (f"the data set lacks these classes of the model, so they are not measured: {_quoted(extra)}",) if extra else ()
    )
    if absent:
        notes += (f"the model lacks these classes, but they have no object: {_quoted(absent)}",)
    return {label: ids[name] for label, name in names.items() if name in ids}, notes


def _quoted(names: Iterable[str]) -> str:
    return some([f"'{name}'" for name in names])


def _other_spellings(unknown: Iterable[str], known: Iterable[str]) -> str:
    """A hint if a class of the model differs from an unknown class only in case, spaces or Unicode form."""
    known = list(known)
    pairs = [(one, other) for one in unknown for other in known if same_class_name(one, other)]
    return "".join(f"'{one}' is spelled '{other}' there; " for one, other in pairs[:1])
