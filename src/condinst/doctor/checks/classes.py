"""Checks a data set as a whole: its classes, their frequency, and its kinds of annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from condinst.data.class_names import alike, show_names
from condinst.data.findings import Finding, Severity
from condinst.data.formats.splits import SPLITS
from condinst.data.sample import AnnotatedData
from condinst.errors import some

FEW = 10  # the doctor reports a class with fewer instances
UNEVEN = 100  # the doctor reports a class with this many times the instances of another class

Splits = Mapping[str, AnnotatedData]  # by name; training uses the first subset


def check_set(splits: Splits, max_detections: int) -> Iterator[Finding]:
    """Return the findings about all annotations together.

    The class names are those of the first split, as in training.
    """
    trained_on = next(iter(splits))
    yield from _check_subsets(splits)
    for name, data in splits.items():
        yield from _check_amount(name, data, "error" if name == trained_on else "warning")
        yield from _check_pictures(data, max_detections)
        yield from _check_kinds(data)
    counts = {name: count_classes(data) for name, data in splits.items()}
    if splits[trained_on].classes:
        yield from _check_names(splits, counts)
        yield from _check_balance(splits[trained_on], counts[trained_on])


def _check_subsets(splits: Splits) -> Iterator[Finding]:
    """Report the subsets other than train, val and test. Commands use such a subset only if the user names it."""
    if not any(name in SPLITS for name in splits):
        message, remedy = (
            f"no subset is named train; there are {some(list(splits))}",
            "name the one to train on in --data",
        )
        yield Finding("unused-subset", "warning", splits[next(iter(splits))].source, None, message, remedy)
        return
    for name, data in splits.items():
        if name not in SPLITS:
            message = f"train and val use none of the {len(data.samples)} pictures of the subset {name}"
            yield Finding("unused-subset", "info", data.source, None, message, "name its file or folder to use it")


def count_classes(data: AnnotatedData) -> dict[str, int]:
    """Return the instances of each class, without crowds."""
    found = Counter(it.label for sample in data.samples for it in sample.instances if not it.crowd)
    return {name: found[label] for label, name in enumerate(data.classes)}


def _check_amount(name: str, data: AnnotatedData, severity: Severity) -> Iterator[Finding]:
    if not data.samples:
        message, remedy = f"no picture can be used for {name}", "list pictures, or see the other findings"
        yield Finding("no-pictures", severity, data.source, None, message, remedy)
    elif all(it.crowd for sample in data.samples for it in sample.instances):
        message, remedy = f"no picture for {name} has an annotated object", "annotate some, or see the other findings"
        yield Finding("no-objects", severity, data.source, None, message, remedy)


def _check_pictures(data: AnnotatedData, max_detections: int) -> Iterator[Finding]:
    for sample in data.samples:
        count = sum(not it.crowd for it in sample.instances)
        if not count:
            message, remedy = (
                "has no annotated object",
                "the whole picture counts as background; nothing to do if it shows no object",
            )
            yield Finding("empty-picture", "info", sample.path, sample.image_id, message, remedy)
        if count > max_detections:
            message = f"has {count} objects, but condinst predicts at most {max_detections} per picture"
            remedy = "raise detect.max_detections, and --max-detections in val"
            yield Finding("many-objects", "info", sample.path, sample.image_id, message, remedy)


def _check_kinds(data: AnnotatedData) -> Iterator[Finding]:
    """Report instances without a mask."""
    found = Counter(it.shape is None for sample in data.samples for it in sample.instances if not it.crowd)
    if found[True] and found[False]:
        message = f"{found[True]} objects have only a box, {found[False]} have a mask"
        remedy = "training uses what each object has; measurements use the box as the mask of an object without a mask"
        yield Finding("mixed-supervision", "info", data.source, None, message, remedy)
    elif found[True]:
        message = f"all {found[True]} objects have a box and no mask"
        remedy = "training learns masks from boxes and colours; mask AP measured on boxes means little"
        yield Finding("boxes-only", "info", data.source, None, message, remedy)
    federated = sum(sample.federated is not None for sample in data.samples)
    if federated:
        message = f"{federated} pictures are annotated for some classes only (neg_category_ids, as in LVIS)"
        remedy = "val measures them by the rule of LVIS; training treats objects without annotation as background"
        yield Finding("federated", "info", data.source, None, message, remedy)


def _check_names(splits: Splits, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    names = list(dict.fromkeys(name for data in splits.values() for name in data.classes))
    for group in alike(names):
        message = f"these class names look alike, but are different classes: {show_names(group)}"
        remedy = "if they are meant as one class, give it one spelling"
        yield Finding("class-spelling", "warning", next(iter(splits.values())).source, None, message, remedy)
    (first, data), *others = splits.items()
    ids = dict(zip(data.classes, data.category_ids, strict=True))
    for name, other in others:
        if len(other.classes) == len(data.classes) == 1:
            continue  # one class on both sides matches in any case
        for unused in (it for it in other.classes if it not in ids and not counts[name][it]):
            message, remedy = f"class '{unused}' has no object, and {first} lacks the class", "remove the class"
            yield Finding("unused-category", "warning", other.source, None, message, remedy)
        for unknown in (it for it in other.classes if it not in ids and counts[name][it]):
            message = f"{name} has a class '{unknown}' that {first} lacks"
            remedy = "use the same class names in both"
            severity: Severity = "error" if name in SPLITS else "warning"
            yield Finding("unknown-class", severity, other.source, None, message, remedy)
    for label, number in ids.items():
        if counts[first][label]:
            continue
        elsewhere = {name: counts[name].get(label, 0) for name, _ in others if counts[name].get(label, 0)}
        if not elsewhere:
            message, remedy = f"class '{label}' has no object", "remove the class, or annotate it"
            yield Finding("unused-category", "warning", data.source, number, message, remedy)
        for name, count in elsewhere.items():
            message = f"{name} has {count} objects of class '{label}', but {first} has none"
            yield Finding("untrained-class", "warning", data.source, number, message, f"move some to {first}")
    for name, other in others:
        lacking = [it for it in data.classes if counts[first][it] and not counts[name].get(it, 0)]
        if lacking and len(data.classes) > 1:
            message, remedy = (
                f"{name} has no object of {some(lacking)}",
                f"{name} does not measure these classes; move some objects to {name}",
            )
            yield Finding("unmeasured-class", "info", other.source, None, message, remedy)


def _check_balance(data: AnnotatedData, counts: Mapping[str, int]) -> Iterator[Finding]:
    seen = {name: count for name, count in counts.items() if count}
    few = [f"{name} ({count})" for name, count in sorted(seen.items(), key=lambda it: it[1]) if count < FEW]
    if few:
        message, remedy = (
            f"fewer than {FEW} objects of {some(few)}",
            "annotate more: the model will find these classes badly",
        )
        yield Finding("few-objects", "info", data.source, None, message, remedy)
    if len(seen) < 2:
        return
    most, least = max(seen, key=seen.__getitem__), min(seen, key=seen.__getitem__)
    if seen[most] >= UNEVEN * seen[least]:
        message = f"'{most}' has {seen[most]} objects, '{least}' has {seen[least]}"
        remedy = "annotate more of the rare classes: training learns them late and badly"
        yield Finding("class-imbalance", "info", data.source, None, message, remedy)
