"""Write the tables of docs/results.md from what was measured: every src/condinst/zoo/*/scores.json.

python benchmarks/results.py            # writes
python benchmarks/results.py --check    # only says whether the document is up to date (exit code 1 if not)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from card import Card, read_facts, run_command
from card_text import WORST, comparison, measure_command, misses, shown
from tables import NUMBERS, difference, fit_table, megabytes, minutes, number, table

from condinst.errors import DataError
from condinst.files import replace_file

ROOT = Path(__file__).parent.parent
NONE = "*No model is shipped yet.*"


def main(
    root: Annotated[Path, typer.Option(help="Where src/ and docs/ are.")] = ROOT,
    check: Annotated[bool, typer.Option("--check", help="Write nothing.")] = False,
) -> None:
    """Bring docs/results.md up to date."""
    page = root / "docs" / "results.md"
    before = page.read_text(encoding="utf-8")
    after = fill(before, read_cards(root), page)
    if check and before != after:
        raise DataError(f"{page}: not what the shipped models' scores say; run python benchmarks/results.py")
    if not check:
        replace_file(page, after.encode())


def read_cards(root: Path) -> list[Card]:
    """Of every shipped model, by name."""
    return [read_facts(path, Card) for path in sorted((root / "src" / "condinst" / "zoo").glob("*/scores.json"))]


def fill(page: str, cards: Sequence[Card], path: Path) -> str:
    """`page` with what stands between its markers replaced; raises DataError for a marker that is missing."""
    sections = {"models": models, "rival": beside_rival, "training": training, "failures": failures}
    for name, write in sections.items():
        begin, end = f"<!-- {name}: written by benchmarks/results.py -->", f"<!-- end of {name} -->"
        body = f"{begin}\n{write(cards) if cards else NONE}\n{end}"
        places = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        count = len(places.findall(page))
        if count != 1:
            raise DataError(f"{path}: expected the markers '{begin}' and '{end}' once, found {count} times")
        page = places.sub(body.replace("\\", r"\\"), page)
    return page


def models(cards: Sequence[Card]) -> str:
    """Masks and boxes of every model at every limit, and the commands that measure them."""
    rows = [
        (
            f"[{card.name}](../src/condinst/zoo/{card.name}/README.md)",
            str(limit),
            *(number(getattr(scores.segm, part)) for part in NUMBERS),
            *(number(getattr(scores.bbox, part)) for part in ("AP", "AP50")),
            number(card.ceiling[limit].segm.AP),
        )
        for card in cards
        for limit, scores in sorted(card.scores.items())
    ]
    head = ("model", "limit", *(f"mask {part}" for part in NUMBERS), "box AP", "box AP50", "best possible mask AP")
    commands = "\n".join(measure_command(card, limit) for card in cards for limit in sorted(card.scores))
    return f"{table(head, rows)}\n\n```sh\n{commands}\n```"


def beside_rival(cards: Sequence[Card]) -> str:
    """Mask R-CNN's numbers, size and time beside each model's."""
    rows = []
    for card in cards:
        for limit in sorted(card.scores):
            if card.rival is None or limit not in card.rival.scores:
                continue
            scores, other, gap = card.rival.condinst[limit], card.rival.scores[limit], difference(card, limit, "segm")
            pairs = (
                (scores.segm.AP, other.segm.AP),
                (scores.segm.AP50, other.segm.AP50),
                (scores.bbox.AP, other.bbox.AP),
            )
            sizes = (f"{card.parameters / 1e6:.2f} M", f"{card.rival.parameters / 1e6:.2f} M")
            times = (minutes(card.rival.condinst_seconds / 60), minutes(card.rival.training_seconds / 60))
            cells = [" / ".join(number(value) for value in pair) for pair in pairs]
            seen = f"{card.rival.images_seen:,}"
            rows.append((card.name, seen, str(limit), *cells, f"{gap:+.3f}", " / ".join(sizes), " / ".join(times)))
    if not rows:
        return "*Mask R-CNN is not measured yet.*"
    head = (
        "model",
        "images seen",
        "limit",
        "mask AP",
        "mask AP50",
        "box AP",
        "gain in mask AP",
        "parameters",
        "training",
    )
    remarks = [f"{card.name}: {remark}" for card in cards for remark in card.remarks]
    commands = "\n".join(card.rival_command for card in cards if card.rival is not None)
    words = "In each pair CondInst stands first, Mask R-CNN second."
    return "\n\n".join([words, table(head, rows), *remarks, f"```sh\n{commands}\n```"])


def training(cards: Sequence[Card]) -> str:
    """Data, recipe, hardware, time and command."""
    rows = [
        (
            card.name,
            f"{card.data.train_images} images, {card.data.train_objects:,} objects, {card.data.licence}",
            f"`{card.training.recipe}`: {card.training.settings}",
            card.training.hardware,
            minutes(card.training.minutes),
            f"{card.parameters:,}",
            megabytes(card.file_bytes),
        )
        for card in cards
    ]
    head = ("model", "training data", "recipe", "hardware", "time", "parameters", "file")
    commands = "\n".join(card.training.command for card in cards)
    return f"{table(head, rows, words=4)}\n\n```sh\n{commands}\n```"


def failures(cards: Sequence[Card]) -> str:
    """Errors, worst pictures and limits of use of every model."""
    parts = []
    for card in cards:
        worst = list(reversed(card.fits))[:WORST]
        limits = "\n".join(f"- {line}" for line in card.limits_of_use)
        pictures = shown(card, "failure", "images")
        parts.append(
            f"### {card.name}\n\n{misses(card)} {comparison(card)}\n\n{fit_table(worst)}\n\n{pictures}\n\n{limits}"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    run_command(main)
