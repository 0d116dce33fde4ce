"""`condinst predict`: segment images, write overlays and a COCO document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condinst.cli.options import (
    Device,
    Json,
    MaxSize,
    Model,
    ModeOption,
    NmsOption,
    OverlapOption,
    RangeOption,
    Size,
    TileOption,
    make_predictor,
)
from condinst.cli.predict import overlay_options as draw
from condinst.cli.predict.shards import ShardFormat
from condinst.cli.terminal.say import say

if TYPE_CHECKING:
    from condinst.cli.results.formats import Saved
    from condinst.cli.results.run import Run
    from condinst.predictor import Predictor
    from condinst.sources.film import Part
    from condinst.sources.places import Source

DEFAULT_OUT = Path("condinst-out")
FAINT = 0.1  # lowest score with which an instance may continue a track


def predict(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Image files, folders, patterns, http(s) addresses, @FILE for a list with an image on each line, or - "
            "for standard input. Or films: video files, addresses such as rtsp://…, or the number of a camera.",
        ),
    ],
    model: Model = "nuclei",
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for overlays and results.json. Default: {DEFAULT_OUT}; with --json, no folder."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run in --out and retry the images that failed.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Remove the files that an earlier run wrote into --out. Other files stay."),
    ] = False,
    save: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT,...",
            help="Formats to write besides results.json (coco): json, labelme, yolo, csv, geojson, label-image, masks, "
            "crops.",
        ),
    ] = None,
    conf: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score to keep. Default: 0.5.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="CLASS,...", help="Keep only these classes: names, or numbers from 0.")
    ] = None,
    size: Size = None,
    max_size: MaxSize = None,
    max_detections: Annotated[int | None, typer.Option(min=1, help="Maximum number of instances per image.")] = None,
    nms: NmsOption = None,
    iou: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="NMS threshold: remove the lower-scoring of two detections with at least this IoU."
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Reject images with more pixels before decoding.")
    ] = None,
    device: Device = None,
    mode: ModeOption = None,
    range: RangeOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    pages: Annotated[
        str | None,
        typer.Option(
            metavar="all|first|1,3,5-9",
            help="Pages to read from a file with several. Default: all pages of a TIFF, the first of other formats.",
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Films: read every n-th frame.")] = 1,
    start: Annotated[float, typer.Option(min=0, help="Films: begin at this time, in seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option(min=0, help="Films: end at this time, in seconds.")] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Films: follow each object, and give it one number in all frames.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Very many pictures: predict in this many processes and write the results in shards. A source @FILE "
            "is a list with a picture on each line.",
        ),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="With --workers: pictures of a shard.")] = 1000,
    shard_format: Annotated[
        ShardFormat | None,
        typer.Option(help="With --workers: lines of JSON, or Parquet with the same rows. Default: jsonl."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="NUMBER/COUNT", help="With --workers: the shards of this machine, one of several."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Read the sub-folders of a folder, too.")
    ] = False,
    batch: Annotated[
        int,
        typer.Option(
            min=1, help="Batch size. condinst pads smaller images in a batch; padding changes their results slightly."
        ),
    ] = 1,
    overlay: draw.Overlay = True,
    overlay_format: draw.Ending = draw.OverlayFormat.png,
    boxes: draw.Boxes = None,
    masks: draw.Masks = None,
    labels: draw.Labels = None,
    conf_labels: draw.ConfLabels = None,
    legend: draw.Legend = None,
    color_by: draw.Color = None,
    alpha: draw.Alpha = None,
    line_width: draw.LineWidth = None,
    font_size: draw.FontSize = None,
    scale: draw.Scale = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print a table of the instances in each image.")
    ] = False,
    json: Json = False,
) -> None:
    """Segment images: write an overlay for each image and results.json with COCO scores, boxes and masks.

    Example: condinst predict photos/ --model nuclei --out my_results

    Example: condinst predict film.mp4 --model nuclei --track --out my_results

    condinst reports an image that it cannot use and continues with the next image. The exit code is then 3. For a film,
    it writes a film with the masks drawn in and a line of JSON for each frame.
    """
    from condinst.cli.predict.films import Wanted, only_films, predict_films, refuse
    from condinst.cli.predict.loop import complain, predict_all
    from condinst.cli.predict.printed import Printer
    from condinst.cli.predict.shards import Wanted as Many
    from condinst.cli.predict.shards import predict_many
    from condinst.cli.predict.shards import refuse as no_shards
    from condinst.cli.results.formats import Saved, read_formats
    from condinst.errors import UsageError
    from condinst.inference.instances.classes import read_labels
    from condinst.settings.prediction import SHOWN_SCORE

    style = {
        "boxes": boxes, "masks": masks, "labels": labels, "conf": conf_labels, "legend": legend, "alpha": alpha,
        "color_by": color_by and color_by.value, "line_width": line_width, "font_size": font_size, "scale": scale,
    }  # fmt: skip
    folder = out or (None if json else DEFAULT_OUT)
    ending = overlay_format.value if overlay and folder else ""
    chosen = {name: value for name, value in style.items() if value is not None}
    lowest = SHOWN_SCORE if conf is None else conf
    if only_films(source):
        refuse({"--resume": resume, "--save": save, "--pages": pages, "--legend": legend, "--scale": scale})
        refuse({"--workers": workers})
        predictor = make_predictor(
            model, device, size, max_size, max_detections, nms, min(lowest, FAINT) if track else lowest, max_pixels,
            mode, range, iou, "off" if tile is None else tile, overlap,
        )  # fmt: skip
        wanted = None if classes is None else list(read_labels(classes, predictor.names))
        header = _header(predictor, model, wanted, batch)
        part = _film_part(every, start, end)
        films = Wanted(part, track, lowest, batch, wanted, folder, overlay, overwrite, json, chosen, header)
        predict_films(source, predictor, films)
        return
    _refuse_film_options(every, start, end, track)
    if workers is not None:
        no_shards({"--overwrite": overwrite, "--save": save, "--json": json, "--verbose": verbose, "--pages": pages})
        make = partial(
            _make_on, model=model, size=size, max_size=max_size, max_detections=max_detections, nms=nms, conf=lowest,
            max_pixels=max_pixels, mode=mode, range=range, iou=iou, tile=tile, overlap=overlap, chosen=device,
        )  # fmt: skip
        predictor = make(None)
        wanted = None if classes is None else list(read_labels(classes, predictor.names))
        many = Many(
            out or DEFAULT_OUT, workers, shard_size, shard_format or ShardFormat.jsonl, shard, resume, batch, wanted,
            recursive, _header(predictor, model, wanted, batch),
        )  # fmt: skip
        predict_many(source, make, predictor, many)
        return
    for option in (name for name, given in {"--shard": shard, "--shard-format": shard_format}.items() if given):
        raise UsageError(f"{option} needs --workers")
    saved = Saved(read_formats(save or []), ending, chosen)
    sources, unusable = _expand(source, pages, recursive)
    with _results_folder(folder, resume, overwrite, saved) as (place, old):
        predictor = make_predictor(
            model, device, size, max_size, max_detections, nms, lowest, max_pixels, mode, range, iou, tile, overlap
        )
        wanted = None if classes is None else list(read_labels(classes, predictor.names))
        header = _header(predictor, model, wanted, batch) | saved.describe()
        run = _open_run(place, header, sources, saved, old and resume)
        printer = Printer(json, verbose)
        unwritten = predict_all(run, predictor, printer, batch, wanted, json, kept=folder is not None)
        printer.total(folder, bool(ending))
        complain(run, unusable, unwritten)


def _make_on(device: str | None, chosen: str | None, **options: Any) -> Predictor:
    """A predictor on the device that was chosen, or else on `device`."""
    return make_predictor(device=chosen or device, **options)


def _film_part(every: int, start: float, end: float | None) -> Part:
    from condinst.errors import UsageError
    from condinst.sources.film import Part

    if end is not None and end <= start:
        raise UsageError(f"--end {end:g}: expected a time after --start ({start:g})")
    return Part(every, start, end)


def _refuse_film_options(every: int, start: float, end: float | None, track: bool) -> None:
    from condinst.errors import UsageError

    given = {"--every": every > 1, "--start": start > 0, "--end": end is not None, "--track": track}
    for option in (name for name, used in given.items() if used):
        raise UsageError(f"{option} is for films; the sources are pictures")


def _expand(source: list[str], pages: str | None, recursive: bool) -> tuple[list[Source], int]:
    """Return the sources and the number of arguments without any source. Report each of those on standard error."""
    from condinst.data.pictures.pages import parse_pages
    from condinst.errors import DataError
    from condinst.sources.lists import lines_of
    from condinst.sources.places import expand_sources
    from condinst.sources.skipped import skipped

    source = [place for text in source for place in lines_of(text)]
    sources, failures, notes = expand_sources(source, None if pages is None else parse_pages(pages), recursive)
    for line in (*skipped(source, recursive), *notes):
        say(f"note: {line}", err=True)
    for line in failures:
        say(f"left out: {line}", err=True)
    if not sources:
        raise DataError(f"nothing to predict: {len(failures)} of {len(failures)} sources could not be used")
    return sources, len(failures)


@contextmanager
def _results_folder(folder: Path | None, resume: bool, overwrite: bool, saved: Saved) -> Iterator[tuple[Path, bool]]:
    """Lock the folder for results. Yield the folder and whether it holds an earlier run."""
    from condinst.cli.results.folder import has_run
    from condinst.errors import UsageError
    from condinst.lock import locked

    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; give only one of them")
    if folder is None:
        if resume or overwrite or saved.formats:
            raise UsageError("--resume, --overwrite and --save need a folder; add --out FOLDER")
        with TemporaryDirectory() as place:
            yield Path(place), False
        return
    with locked(folder, "writing"):
        old = has_run(folder, resume, overwrite, saved.run_files)
        if resume and not old:
            say(f"note: {folder} has no run to resume; condinst starts a new run", err=True)
        yield folder, old


def _open_run(place: Path, header: dict[str, Any], sources: list[Source], saved: Saved, go_on: bool) -> Run:
    from condinst.cli.results.folder import not_written_here
    from condinst.cli.results.run import Run

    sources = not_written_here(place, sources)
    if not go_on:
        return Run.begin(place, header, sources, saved)
    run = Run.go_on(place, header, sources, saved)
    say(f"note: an earlier run finished {run.finished} of {len(sources)} images", err=True)
    return run


def _header(predictor: Predictor, model: str, classes: list[int] | None, batch: int) -> dict[str, Any]:
    """Return everything that affects the results. --resume requires the same values."""
    from hashlib import sha256

    from condinst.cli.results.folder import DESCRIPTION
    from condinst.errors import hide_secrets
    from condinst.weights.fetch import digest

    config = predictor.config
    return {
        "description": f"{DESCRIPTION} '{hide_secrets(model)}'",
        "model": hide_secrets(model),
        "weights": digest(predictor.file)[:16] if predictor.file else "",
        "mode": predictor.mode,
        "size": f"{config.input.shorter}, {config.input.longer}",
        "conf": predictor.conf,
        "nms": f"{config.detect.nms}, {config.detect.nms_threshold}",
        "max_detections": config.detect.max_detections,
        "classes": classes,
        "batch": batch,
        "settings": sha256(config.model_dump_json().encode()).hexdigest()[:16],
        "categories": [{"id": label + 1, "name": name} for label, name in predictor.names.items()],
    }
