"""Tables and numbers in Markdown, the same way on every page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """`words`: columns from the left that hold text; the others are numbers, set to the right."""
    lines = [head, ["---" if index < words else "---:" for index in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """COCO's −1 means that there was nothing to measure."""
    return "–" if value < 0 else f"{value:.3f}"


def megabytes(size: int) -> str:
    """Of 10⁶ bytes."""
    return f"{size / 1e6:.1f} MB"


def minutes(value: float | None) -> str:
    """Training time in words."""
    if value is None:
        return "not recorded"
    return f"{value:.0f} min" if value < 120 else f"{value / 60:.1f} h"
