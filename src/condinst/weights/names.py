"""What a model's name means. Nothing here reads weights or fetches any, so listing the models stays quick."""

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
SCORES_FILE = "scores.json"  # of a shipped model
FOREIGN_SUFFIXES = (".pth", ".pt")  # files of the published programs
ZOO = Path(__file__).parent.parent / "zoo"
LONGEST = 200  # letters of a name in an error
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name


class Repository(NamedTuple):
    """A repository on the Hugging Face hub that should hold one of our model folders. id: owner/name."""

    id: str


Place = Path | Checkpoint | Repository


def shipped_names(zoo: Path = ZOO) -> tuple[str, ...]:
    """Names of the models that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in zoo.glob(f"*/{WEIGHTS_FILE}")))


def measured_on(name: str, zoo: Path = ZOO) -> str:
    """The pictures that a shipped model's accuracy was measured on; empty if it does not say."""
    try:
        data = json.loads((zoo / name / SCORES_FILE).read_text(encoding="utf-8"))["data"]
        return f"{data['val_images']} held-out images with {data['val_objects']:,} objects, of {data['title']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def resolve(source: str | Path, zoo: Path = ZOO) -> Place:
    """What `source` means: a shipped name, a published one, a local folder or file, a repository; in this order.

    A Path returned is that of the weights. A folder that shares its name with a model is reached as `./name`. A path
    is never a repository, nor is a name that begins as published ones do. Raises ModelError, suggesting the nearest
    name, when nothing fits.
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
    except (OSError, ValueError):  # a name that no file can have, or a place that may not be looked into
        pass
    if isinstance(source, str) and _may_be_repository(source):
        return Repository(source)
    raise ModelError(
        f"model {name[:LONGEST]!r}: no such shipped or published model, folder or file; {remedy(name, zoo)}"
    )


def remedy(name: str, zoo: Path = ZOO) -> str:
    """What to do about a name that means nothing."""
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
