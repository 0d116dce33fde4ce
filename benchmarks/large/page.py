"""The figures of docs/how-to/large-pictures.md.

python -m benchmarks.large.page
"""

from __future__ import annotations

from benchmarks.accuracy.results import fill
from benchmarks.facts import RESULTS, ROOT, read_facts, run_command
from benchmarks.large import memory, seams
from benchmarks.markdown import number, table
from condinst.files import replace_file

WRITER = "benchmarks/large/page.py"


def main() -> None:
    """Write the tables into the page."""
    page = ROOT / "docs" / "how-to" / "large-pictures.md"
    text = fill(page.read_text(encoding="utf-8"), {"memory": sizes(), "seams": borders()}, page, WRITER)
    replace_file(page, text.encode())


def sizes() -> str:
    """Memory and time by the size of the picture."""
    found = read_facts(RESULTS / memory.FILE, memory.Sizes)
    rows = [
        (
            f"{one.side:,} × {one.side:,}",
            f"{one.objects:,}",
            f"{one.found:,}",
            f"{one.wrong:,}",
            f"{one.tiles:,}",
            f"{one.seconds:.0f} s",
            f"{one.megabytes:,} MB",
            f"{one.preview_seconds:.0f} s",
        )
        for one in found.sizes
    ]
    head = ("pixels", "objects", "found", "with other pixels", "tiles", "time", "memory", "overlay")
    return (
        f"A perfect network takes the place of the model, so the table shows what the tiles cost, with one thread and "
        f"tiles of {found.tile} pixels. Memory is the peak of the whole process.\n\n"
        f"{table(head, rows)}\n\n{found.machine}. Command: `{found.command}`"
    )


def borders() -> str:
    """Mask AP near the seams and away from them."""
    found = read_facts(RESULTS / seams.FILE, seams.Seams)
    rows = [
        (
            f"{way.tile}",
            f"{way.count:,}",
            number(way.all),
            number(way.near),
            number(way.far),
            number(way.whole_near),
            number(way.whole_far),
            f"{way.overlap_median:.3f}",
        )
        for way in found.ways
    ]
    head = ("tile", "found", "AP", "near seams", "elsewhere", "whole, near", "whole, elsewhere", "mask IoU")
    return (
        f"{found.mosaics} mosaics of 16 held-out pictures with {found.objects:,} nuclei. As a whole, the model "
        f"finds {found.whole_count:,} with mask AP {number(found.whole_all)}. The last column is the median IoU of the "
        "masks away from the seams with those of the whole picture.\n\n"
        f"{table(head, rows)}\n\n{found.machine}. Command: `{found.command}`"
    )


if __name__ == "__main__":
    run_command(main)
