"""Write the tables of docs/explanation/{accuracy,tuning-diary}.md from the shipped scores and benchmarks/results/.

python -m benchmarks.accuracy.results            # writes
python -m benchmarks.accuracy.results --check    # only says whether the documents are up to date (exit code 1 if not)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.accuracy.beside import pair_table, read_pairs, supervision_table
from benchmarks.accuracy.choice import choice_table
from benchmarks.cards.card import Card
from benchmarks.cards.tables import NUMBERS, fit_table
from benchmarks.cards.text import WORST, comparison, measure_command, misses, shown
from benchmarks.facts import ROOT, read_facts, run_command
from benchmarks.markdown import megabytes, minutes, number, table
from condinst.errors import DataError
from condinst.files import replace_file

NONE = "*No model is shipped yet.*"


def main(
    root: Annotated[Path, typer.Option(help="Where src/ and docs/ are.")] = ROOT,
    check: Annotated[bool, typer.Option("--check", help="Write nothing.")] = False,
) -> None:
    """Bring docs/explanation/accuracy.md and tuning-diary.md up to date."""
    folder, results = root / "docs" / "explanation", root / "benchmarks" / "results"
    pages = {
        folder / "accuracy.md": accuracy_sections(read_cards(root), results),
        folder / "tuning-diary.md": {"backbones": choice_table(results)},
    }
    for page, sections in pages.items():
        before = page.read_text(encoding="utf-8")
        after = fill(before, sections, page)
        if check and before != after:
            raise DataError(f"{page}: not what was measured; run python -m benchmarks.accuracy.results")
        if not check:
            replace_file(page, after.encode())


def read_cards(root: Path) -> list[Card]:
    """Of every shipped model, by name."""
    return [read_facts(path, Card) for path in sorted((root / "src" / "condinst" / "zoo").glob("*/scores.json"))]


def accuracy_sections(cards: Sequence[Card], results: Path) -> dict[str, str]:
    """The written sections of accuracy.md by the names of their markers."""
    by_card = {"first": first, "models": models, "training": training, "failures": failures}
    sections = {name: write(cards) if cards else NONE for name, write in by_card.items()}
    return sections | {"rival": pair_table(read_pairs(results)), "supervision": supervision_table(results)}


def fill(page: str, sections: Mapping[str, str], path: Path, writer: str = "benchmarks/accuracy/results.py") -> str:
    """`page` with what stands between its markers replaced; raises DataError for a marker that is missing."""
    for name, text in sections.items():
        begin, end = f"<!-- {name}: written by {writer} -->", f"<!-- end of {name} -->"
        body = f"{begin}\n{text}\n{end}"
        places = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        count = len(places.findall(page))
        if count != 1:
            raise DataError(f"{path}: expected the markers '{begin}' and '{end}' once, found {count} times")
        page = places.sub(body.replace("\\", r"\\"), page)
    return page


def first(cards: Sequence[Card]) -> str:
    """What a user wants to know first: how many objects a model finds, and how large it is."""
    rows = []
    for card in cards:
        objects, predicted, right = (
            sum(getattr(fit, name) for fit in card.fits) for name in ("objects", "predicted", "matched50")
        )
        found, false = (
            f"{right / max(objects, 1):.0%} of {objects:,}",
            f"{(predicted - right) / max(predicted, 1):.0%} of {predicted:,}",
        )
        best = max(card.scores)
        rows.append(
            (
                f"`{card.name}`",
                card.segments,
                found,
                false,
                f"{card.scores[best].segm.AP:.3f}",
                f"{megabytes(card.file_bytes)}",
            )
        )
    head = ("model", "segments", "objects found", "predictions that are false", "mask AP", "file")
    return table(head, rows, words=2)


def models(cards: Sequence[Card]) -> str:
    """Masks and boxes of every model at every limit, and the commands that measure them."""
    rows = [
        (
            f"`{card.name}`",
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
    return f"{table(head, rows)}\n\n<!-- not run: needs the whole data sets -->\n```sh\n{commands}\n```"


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
    return f"{table(head, rows, words=4)}\n\n<!-- not run: needs the whole data sets -->\n```sh\n{commands}\n```"


def failures(cards: Sequence[Card]) -> str:
    """Errors, worst pictures and limits of use of every model."""
    parts = []
    for card in cards:
        worst = list(reversed(card.fits))[:WORST]
        limits = "\n".join(f"- {line}" for line in card.limits_of_use)
        pictures = shown(card, "failure", "../images")
        parts.append(
            f"### {card.name}\n\n{misses(card)} {comparison(card)}\n\n{fit_table(worst)}\n\n{pictures}\n\n{limits}"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    run_command(main)
