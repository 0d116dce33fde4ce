"""What was aimed at, beside what came out: the first table of docs/explanation/speed.md."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.markdown import table
from benchmarks.speed.measure import COMPILED, EXACT, FAST, KEPT, REFERENCE, find
from benchmarks.speed.page.tables import MODES, Records


class Target(NamedTuple):
    """`what` by `who` in the record `name`, over the same by `rival` if there is one, may be `limit` at most."""

    words: str
    name: str
    what: str
    who: str
    limit: float
    rival: str | None = None


TARGETS = (
    *(
        Target(f"End to end, {who}, of the reference", "stages-cpu", "640×384", who, limit, REFERENCE)
        for who, limit in ((EXACT, 0.45), (FAST, 0.25), (COMPILED, 0.25))
    ),
    Target("Mask head, 100 instances", "stages-cpu", "mask head", EXACT, 0.1, REFERENCE),
    Target("Assembly to 640×384 with RLE", "stages-cpu", "assembly and RLE, 640×384", EXACT, 0.08, REFERENCE),
    Target("Assembly to 4000×3000 with RLE", "stages-cpu", "assembly and RLE, 4000×3000", EXACT, 0.1, REFERENCE),
    *(Target(f"4000×3000 end to end, {who}, time", "stages-cpu", "4000×3000", who, 0.1, REFERENCE) for who in MODES),
    *(
        Target(f"4000×3000 end to end, {who}, memory", "stages-cpu", "4000×3000, peak memory", who, 0.1, REFERENCE)
        for who in (EXACT, FAST)
    ),
    *(
        Target(f"Memory above the model, {count} instances, 12 megapixels, {who}", "stages-cpu", what, who, limit)
        for count, what, limit in (
            (100, "4000×3000, peak memory", 400.0),
            (1000, "4000×3000 with 1000 instances, peak memory", 600.0),
        )
        for who in (EXACT, FAST)
    ),
    *(
        Target(f"Training step, {who}, {part}", "training_step-cpu", f"training step{name}", who, limit, REFERENCE)
        for who in ("float32, channels_last", "bf16, channels_last", "bf16, channels_last, recompute")
        for part, name, limit in (("time", "", 1 / 1.5), ("memory", ", peak memory", 0.5))
    ),
    *(
        Target(f"Nuclei model at 640×640, {who}, of {rival}", "rivals-cpu", "640×640", who, 0.5, rival)
        for rival in ("YOLO26n-seg", "YOLO11n-seg")
        for who in MODES
    ),
    *(
        Target(f"Exported nuclei model at 640×640, {who}, of {rival}", "exported-cpu", "640×640", who, limit, rival)
        for rival in ("YOLO26n-seg, its OpenVINO export", "YOLO11n-seg, its OpenVINO export")
        for who, limit in (("OpenVINO, 16 bit", 0.45), ("OpenVINO, 8 bit", 0.35))
    ),
    *(
        Target(f"R50 at 800×1333, {who}, of the reference", "exported-cpu", "800×1333", who, limit, REFERENCE)
        for who, limit in ((EXACT, 0.40), ("OpenVINO, 16 bit", 0.22), ("OpenVINO, 8 bit", 0.13))
    ),
    Target("`condinst --help`", "startup-cpu", "start-up", "condinst --help", 300),
    Target("`condinst --version`", "startup-cpu", "start-up", "condinst --version", 300),
    Target("`import condinst`", "startup-cpu", "start-up", "import condinst", 500),
    Target(
        "First prediction, of `import torch, torchvision`",
        "startup-cpu",
        "start-up",
        "first prediction",
        2.5,
        "import torch, torchvision",
    ),
    *(
        Target(f"GPU: {what}, of its floor", "stages-cuda", what, EXACT, 2, "floor in float32")
        for what in ("mask head", "mask head, enlarged")
    ),
    *(
        Target(f"GPU: end to end, {who}, of the reference", "stages-cuda", "640×384", who, 0.5, REFERENCE)
        for who in MODES
    ),
)


def targets(records: Records) -> str:
    """What was aimed at, what came out, and by how much it is missed; the same once more with pages kept."""
    head = ("", "target", "measured", "", "pages kept", "")
    return table(head, [_target_row(records, target) for target in TARGETS], words=1)


def _target_row(records: Records, target: Target) -> tuple[str, ...]:
    unit = "" if target.rival else _unit(target)
    kept = target._replace(name=f"{target.name}{KEPT}")
    cells = _verdict(reach(records, target), target, unit), _verdict(reach(records, kept), target, unit)
    return target.words, f"≤ {target.limit:.3g}{unit}", *(cell for pair in cells for cell in pair)


def _verdict(measured: float | None, target: Target, unit: str) -> tuple[str, str]:
    if measured is None:
        return "–", ""
    verdict = "met" if measured <= target.limit else f"**missed** by {measured / target.limit - 1:.0%}"
    return f"{measured:.3g}{unit}", verdict


def reach(records: Records, target: Target) -> float | None:
    """The median, as a ratio where there is a rival."""
    record = records.get(target.name)
    mine = record and find(record, target.what, target.who)
    if not mine:
        return None
    if target.rival is None:
        return mine.median
    other = record and find(record, target.what, target.rival)
    return mine.median / other.median if other else None


def _unit(target: Target) -> str:
    return " MB" if target.what.endswith("memory") else " ms"
