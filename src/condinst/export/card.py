"""The part of the model card about an exported program."""

from __future__ import annotations

import math
from collections.abc import Sequence

from condinst.config import Config
from condinst.export.check import Measured
from condinst.export.compare import Difference

HEADING = "## Exported program: "


def with_section(card: str, section: str) -> str:
    """The card with the section of a program, in place of an older section about the same file."""
    heading = section.partition("\n")[0] + "\n"
    before, _, older = card.partition(heading)
    rest = older[older.index("\n## ") + 1 :] if "\n## " in older else ""
    return "\n\n".join(part.strip("\n") for part in (before, section, rest) if part) + "\n"


def program_section(
    file: str,
    config: Config,
    fixed: tuple[int, int] | None,
    differences: Sequence[Difference],
    measured: Sequence[Measured],
) -> str:
    """Markdown: inputs and outputs of the program, and how it differs from the model."""
    model, most = config.model, config.detect.max_detections
    limit = math.log(config.detect.mask_threshold / (1 - config.detect.mask_threshold))
    height, width = ("H", "W") if fixed is None else map(str, fixed)
    images = "N" if fixed is None else "1"
    low = ("H / 8", "W / 8") if fixed is None else (str(fixed[0] // 8), str(fixed[1] // 8))
    sides = f"H and W are multiples of {model.size_divisor}." if fixed is None else ""
    order, colours = model.channel_order, f"mean {list(model.pixel_mean)} and deviation {list(model.pixel_std)}"
    rows = (
        ("boxes", f"({images}, {most}, 4) float32", "x1, y1, x2, y2 in pixels of the input"),
        ("scores", f"({images}, {most}) float32", "best first; −1 in empty rows"),
        ("labels", f"({images}, {most}) int64", "index of the class; −1 in empty rows"),
        ("count", f"({images},) int64", "instances of the image; later rows are empty"),
        (
            "mask_logits",
            f"({images}, {most}, {', '.join(low)}) float32",
            f"above {limit:.6g} inside the mask; each for 8×8 pixels; enlarge them as example.py does",
        ),
    )
    compared = (
        f"| {one.picture} | {one.counts[0]} and {one.counts[1]} | {one.box:.1e} | {one.score:.1e} | "
        f"{one.cells} of {one.of:,} |"
        for one in differences
    )
    lines = [
        f"{HEADING}{file}",
        "",
        f"Input `images`: float32 ({images}, 3, {height}, {width}), {order}, (value − mean) / deviation with {colours} "
        f"for values from 0 to 255; then zeros at the right and below. {sides}".rstrip(),
        "",
        "| output | shape | meaning |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {shape} | {meaning} |" for name, shape, meaning in rows),
        "",
        "`condinst export` compared the program with the model:",
        "",
        "| picture | instances | largest box difference (px) | largest score difference | differing mask cells |",
        "| --- | --- | --- | --- | --- |",
        *compared,
    ]
    if measured:
        lines += ["", f"AP at {most} detections on the data of `--check`:", "", "| | box AP | mask AP |"]
        lines += ["| --- | --- | --- |", *(f"| {one.name} | {one.box:.3f} | {one.mask:.3f} |" for one in measured)]
    return "\n".join(lines) + "\n"
