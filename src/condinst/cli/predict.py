"""`condinst predict`: images in, pictures and a COCO document out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import Device, Json, MaxSize, Model, ModeOption, NmsOption, RangeOption, Size, make_predictor
from condinst.cli.say import say

if TYPE_CHECKING:
    from condinst.cli.output import CocoDocument, Record
    from condinst.cli.sources import Source
    from condinst.errors import CondinstError
    from condinst.predictor import Predictor

DEFAULT_OUT = Path("condinst-out")
ROWS = 10  # shown per image; results.json has all


def predict(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Files, folders, patterns, http(s) addresses, or - for standard input."
        ),
    ],
    model: Model = "nuclei",
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for overlays and results.json; default {DEFAULT_OUT}, or nowhere with --json."),
    ] = None,
    conf: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out instances that score lower; default 0.5.")
    ] = None,
    size: Size = None,
    max_size: MaxSize = None,
    max_detections: Annotated[int | None, typer.Option(min=1, help="Instances kept per image.")] = None,
    nms: NmsOption = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse images with more pixels before decoding.")
    ] = None,
    device: Device = None,
    mode: ModeOption = None,
    range: RangeOption = None,
    pages: Annotated[
        str | None,
        typer.Option(
            metavar="all|first|1,3,5-9",
            help="Pages of files that hold several. Default: all of a TIFF, the first of animations and photos.",
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            min=1, help="Images seen at a time; the smaller are padded, which changes what is found in them a little."
        ),
    ] = 1,
    json: Json = False,
) -> None:
    """Segment images: an overlay each and results.json, a COCO document with scores, boxes and masks.

    An image that cannot be used is named and left out; the others are still processed, and the exit code is then 3.
    """
    from condinst.cli.output import CocoDocument, make_folder
    from condinst.cli.skipped import skipped
    from condinst.cli.sources import expand_sources
    from condinst.config import SHOWN_SCORE
    from condinst.data.pages import parse_pages
    from condinst.errors import DataError

    lowest = SHOWN_SCORE if conf is None else conf
    folder = out or (None if json else DEFAULT_OUT)
    sources, failures, notes = expand_sources(source, None if pages is None else parse_pages(pages))
    notes = [*skipped(source), *notes]
    for line in failures:
        say(f"left out: {line}", err=True)
    for line in notes:
        say(f"note: {line}", err=True)
    if not sources:
        raise DataError(f"nothing to predict: {len(failures)} of {len(failures)} sources could not be used")
    if folder:
        make_folder(folder)
    predictor = make_predictor(model, device, size, max_size, max_detections, nms, lowest, max_pixels, mode, range)
    document = CocoDocument(predictor.names, {"description": f"predictions of the CondInst model '{model}'"})
    bad = len(failures) + _predict_all(predictor, sources, folder, document, batch)
    if document.images:
        _report(document, folder, json)
    if bad:
        raise DataError(f"{bad} of {bad + len(document.images)} sources could not be used, named above")


def _predict_all(
    predictor: Predictor, sources: list[Source], folder: Path | None, document: CocoDocument, batch: int
) -> int:
    """Fill `document` and `folder`; returns how many sources were left out, each named on standard error."""
    from condinst.cli.output import overlay_paths, with_progress
    from condinst.errors import DataError

    left_out = 0
    overlays = overlay_paths(folder, sources) if folder else [None] * len(sources)
    places = iter(with_progress(list(zip(sources, overlays, strict=True)), "predicting"))

    def leave_out(_: object, error: CondinstError) -> None:
        tell(next(places)[0], error)

    def tell(source: Source, error: CondinstError) -> None:
        nonlocal left_out
        left_out += 1
        place = "" if source.name in str(error) else f"{source.name}: "
        say(f"left out: {place}{error}", err=True)

    for result in predictor.stream((source.open for source in sources), batch, leave_out):
        source, overlay = next(places)
        try:
            if overlay:
                result.save(overlay)
        except DataError as error:
            tell(source, error)
            continue
        document.add(
            source.file_name,
            source.page,
            *result.orig_shape,
            result.to_coco(document.next_image, document.category_ids),
        )
    next(places, None)  # the progress bar ends when nothing is left
    return left_out


def _report(document: CocoDocument, folder: Path | None, json: bool) -> None:
    from condinst.cli.output import RESULTS, print_table, write_text

    text = document.to_json()
    if folder:
        write_text(folder / RESULTS, text + "\n")
    if json:
        sys.stdout.write(text + "\n")
        return
    names = {image["id"]: _name(image) for image in document.images}
    classes = dict(zip(document.category_ids.values(), document.names.values(), strict=True))
    by_image: dict[int, list[Record]] = {number: [] for number in names}
    for record in document.annotations:
        by_image[record["image_id"]].append(record)
    rows = [row for number, found in by_image.items() for row in _rows(names[number], found, classes)]
    print_table(("file", "class", "score", "box (x1 y1 x2 y2)", "area (px)"), rows, numbers_from=2)
    say(f"images: {len(names)}, instances: {len(document.annotations)}; overlays and {RESULTS} are in {folder}")


def _rows(name: str, found: list[Record], classes: dict[int, str]) -> list[tuple[str, ...]]:
    """Table rows of one image: the best few, and how many more there are."""
    if not found:
        return [(name, "nothing found", "", "", "")]
    rows: list[tuple[str, ...]] = []
    for record in sorted(found, key=lambda record: -record["score"])[:ROWS]:
        x, y, width, height = record["bbox"]
        box = " ".join(f"{edge:.0f}" for edge in (x, y, x + width, y + height))
        rows.append((name, classes[record["category_id"]], f"{record['score']:.2f}", box, str(record["area"])))
    if len(found) > ROWS:
        rows.append((name, f"… and {len(found) - ROWS} more", "", "", ""))
    return rows


def _name(image: Record) -> str:
    return f"{image['file_name']} page {image['page']}" if "page" in image else str(image["file_name"])
