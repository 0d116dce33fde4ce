"""Resolve the names of models. This module neither reads nor downloads weights, so that listing models is quick."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from condinst.errors import ModelError
from condinst.weights.catalogue import CATALOGUE, PROGRAMS, Checkpoint, find_checkpoint, nearest

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
CARD_FILE = "README.md"
SCORES_FILE = "scores.json"  # file of a shipped model
FOREIGN_SUFFIXES = (".pth", ".pt")  # suffixes of AdelaiDet's and mmdetection's files
ZOO = Path(__file__).parent.parent / "zoo"
LONGEST = 200  # letters of a name in an error
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name


class Repository(NamedTuple):
    """A repository on the Hugging Face hub with a model folder. id: owner/name."""

    id: str


Place = Path | Checkpoint | Repository


def shipped_names(zoo: Path = ZOO) -> tuple[str, ...]:
    """Return the sorted names of the shipped models."""
    return tuple(sorted(path.parent.name for path in zoo.glob(f"*/{WEIGHTS_FILE}")))


def measured_on(name: str, zoo: Path = ZOO) -> str:
    """Return the data that a shipped model was measured on; empty if unknown."""
    try:
        data = json.loads((zoo / name / SCORES_FILE).read_text(encoding="utf-8"))["data"]
        return f"{data['val_images']} held-out images with {data['val_objects']:,} objects, of {data['title']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def shown_name(path: Path, zoo: Path = ZOO) -> str:
    """Return the name of a shipped model for a path inside its folder, and the path itself for any other."""
    return path.parent.name if path.parent.parent == zoo else str(path)


def is_name(source: str | Path, zoo: Path = ZOO) -> bool:
    """Return whether `source` is the name of a shipped or published model, and not a path."""
    return str(source) in shipped_names(zoo) or find_checkpoint(str(source)) is not None


def local_file(source: str | Path) -> Path | None:
    """Return the file of the weights of a model on this machine; None for a published name and a repository."""
    place = resolve(source)
    return place if isinstance(place, Path) else None


def resolve(source: str | Path, zoo: Path = ZOO) -> Place:
    """Resolve `source`: a shipped name, a published name, a local folder or file, or a repository, in this order.

    A returned Path is the path of the weights. Use `./name` for a folder with the same name as a model. A path is never
    a repository, and neither is a name that begins like the published names. Raises ModelError for an unknown name; the
    message suggests the most similar name.
    """
    name = str(source)
    if source == "":
        raise ModelError("a model's name is empty; give a name, a folder or a file")
    if name in shipped_names(zoo):
        return zoo / name / WEIGHTS_FILE
    checkpoint = find_checkpoint(name)
    if checkpoint:
        return checkpoint
    path = Path(source)
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.is_file():
            return _checked(path)
    except (OSError, ValueError):  # an invalid file name, or a folder without permission
        pass
    if isinstance(source, str) and _may_be_repository(source):
        return Repository(source)
    raise ModelError(
        f"model {name[:LONGEST]!r}: no such shipped or published model, folder or file; {remedy(name, zoo)}"
    )


def remedy(name: str, zoo: Path = ZOO) -> str:
    """Return advice for an unknown name."""
    shipped = shipped_names(zoo)
    near = nearest(name, shipped)
    if near:
        return f"did you mean '{near}'?"
    what = f"shipped models: {', '.join(shipped)}" if shipped else "this copy ships no models"
    return f"{what}; `condinst models` lists the {len(CATALOGUE)} published ones"


def _in_folder(folder: Path) -> Path:
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(f"model {folder}: the folder holds no {WEIGHTS_FILE}; give the folder a training run wrote")
    return folder / WEIGHTS_FILE


def _checked(path: Path) -> Path:
    if path.suffix not in {".safetensors", *FOREIGN_SUFFIXES}:
        raise ModelError(
            f"model {path}: expected a .safetensors or .pth file or a folder, got '{path.suffix or path.name}'"
        )
    return path


def _may_be_repository(name: str) -> bool:
    owner = name.partition("/")[0].lower()
    return (
        REPOSITORY.fullmatch(name) is not None
        and owner not in PROGRAMS
        and Path(name).suffix not in {".safetensors", *FOREIGN_SUFFIXES}
    )
