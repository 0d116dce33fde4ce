"""Which file a model's name means. Nothing here reads weights, so listing the models stays quick."""

from __future__ import annotations

import difflib
from pathlib import Path

from condinst.errors import ModelError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
FOREIGN_SUFFIXES = (".pth", ".pt")  # files of the published programs
ZOO = Path(__file__).parent.parent / "zoo"


def shipped_names(zoo: Path = ZOO) -> tuple[str, ...]:
    """Names of the models that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in zoo.glob(f"*/{WEIGHTS_FILE}")))


def find_weights(source: str | Path, zoo: Path = ZOO) -> Path:
    """The weights file that `source` means: a shipped name, a model folder or a file, in this order.

    A folder that shares its name with a shipped model is reached as `./name`. Raises ModelError, suggesting the
    nearest name, when nothing fits.
    """
    names = shipped_names(zoo)
    if str(source) in names:
        return zoo / str(source) / WEIGHTS_FILE
    path = Path(source)
    if path.is_dir():
        if not (path / WEIGHTS_FILE).is_file():
            raise ModelError(f"model {path}: the folder holds no {WEIGHTS_FILE}; give the folder a training run wrote")
        return path / WEIGHTS_FILE
    if path.is_file():
        if path.suffix not in {".safetensors", *FOREIGN_SUFFIXES}:
            raise ModelError(
                f"model {path}: expected a .safetensors or .pth file or a folder, got '{path.suffix or path.name}'"
            )
        return path
    raise ModelError(f"model '{source}': no such shipped model, folder or file; {_remedy(str(source), names)}")


def _remedy(source: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(source.lower(), names, 1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"shipped models: {', '.join(names)}" if names else "this copy ships no models"
