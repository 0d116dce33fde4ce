"""`condinst info`: describe a model without running the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from condinst.cli.options import Json

if TYPE_CHECKING:
    from condinst.config import Config

ROWS = ("backbone", "pyramid", "head", "mask_branch", "mask_head", "filters", "input", "score")


class Known(NamedTuple):
    """A model's settings and weights.

    file: path of the weights or of the program, or the address to download the weights from. size: bytes, None before
    the download. programs: names of the exported programs in the model's folder.
    """

    config: Config
    file: str
    size: int | None
    programs: tuple[str, ...] = ()


def info(
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER|FILE", help="Model: any value that --model accepts.")],
    json: Json = False,
) -> None:
    """Describe a model: its parts, parameters, classes, input, licence and reported accuracy.

    Example: condinst info nuclei

    The command describes a published model without downloading it. It reads and checks every other model, and a
    program of `condinst export`.
    """
    from json import dumps

    from condinst.weights.outline import outline

    known = _find(model)
    document: dict[str, Any] = {
        "model": model,
        "about": known.config.about | _use_and_measure(model, known.config),
        **outline(known.config)._asdict(),
        "classes": list(known.config.model.classes),
        "file": known.file,
        "bytes": known.size,
        "programs": list(known.programs),
    }
    if json:
        typer.echo(dumps(document))
    else:
        _print(document)


def _use_and_measure(model: str, config: Config) -> dict[str, str]:
    """Return whether the licence allows commercial use, and the data that a shipped model was measured on."""
    from condinst.weights.catalogue import commercial_use
    from condinst.weights.names import measured_on, shipped_names

    place = measured_on(model) if model in shipped_names() else ""
    facts = {"commercial use": commercial_use(config.about.get("licence", ""))}
    return facts | ({"measured on": place} if place else {})


def _find(model: str) -> Known:
    from condinst.export.names import programs_in
    from condinst.methods.choose import build_network
    from condinst.weights.catalogue import Checkpoint
    from condinst.weights.folder import fill_model, read_model
    from condinst.weights.names import resolve
    from condinst.weights.obtain import find_cached
    from condinst.weights.outline import expected_config

    if (program := _find_program(model)) is not None:
        return program
    place = resolve(model)
    if isinstance(place, Checkpoint):
        cached = find_cached(place)
        config = expected_config(place)
        return Known(config, str(cached or place.address), cached.stat().st_size if cached else None)
    stored = read_model(model)
    fill_model(build_network(stored.config.model), stored)  # checks that the description is true of the file
    return Known(stored.config, str(stored.path), stored.path.stat().st_size, programs_in(stored.path.parent))


def _find_program(model: str) -> Known | None:
    """A program, or a folder with programs and without weights; None for any other model."""
    from pathlib import Path

    from condinst.export.choose import choose
    from condinst.export.names import program_size, programs_in
    from condinst.export.runtime import open_network
    from condinst.weights.names import WEIGHTS_FILE

    choice = choose(model, None, "cpu")
    path = choice.path
    if path is None or (Path(model).suffix != path.suffix and (path.parent / WEIGHTS_FILE).is_file()):
        return None
    config = choice.read_config()
    open_network(path, config)  # checks that the description is true of the file
    return Known(config, str(path), program_size(path), programs_in(path.parent))


def _print(document: dict[str, Any]) -> None:
    from condinst.cli.terminal.output import print_table

    parameters, classes = document["parameters"], document["classes"]
    size = document["bytes"]
    rows = {
        **{name.replace("_", " "): str(document[name]) for name in ROWS},
        "strides": ", ".join(str(stride) for stride in document["strides"]),
        "parameters": ", ".join(f"{name} {count:,}" for name, count in parameters.items()),
        f"classes ({len(classes)})": ", ".join(classes),
        "licence": "not stated",
        **document["about"],
        "file": document["file"] if size else f"not downloaded; the first use downloads it from {document['file']}",
        "size": f"{size / 1e6:.1f} MB" if size else "–",
    }
    if document["programs"]:
        rows["exported programs"] = ", ".join(document["programs"])
    print_table(("", document["model"]), list(rows.items()), numbers_from=2)
