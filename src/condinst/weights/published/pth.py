"""Read .pth files of other programs: pickles with tensors. The reader runs no code in a file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from condinst.errors import ModelError, one_line
from condinst.foreign import missing_content_of
from condinst.weights.published.convert import Published, read_published
from condinst.weights.published.pickles import Refused, check_torch_file
from condinst.weights.tensors import some

# where AdelaiDet, mmdetection and its moving average keep the state dict
ENTRIES = ("model", "state_dict", "ema_state_dict")
# Classes in the logs of mmdetection's checkpoints. `Note` replaces them; nothing is imported.
NOTES = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)


class Note:
    """Replacement of a class. It ignores all arguments."""

    def __init__(self, *content: object) -> None: ...

    def __setstate__(self, content: object) -> None: ...


def read_foreign(path: Path) -> Published:
    """Read settings and tensors of a published model in a .pth or .pt file. Ignore other content such as an optimizer.

    The file is a pickle. The reader accepts only tensors, numbers, strings and plain containers, and ignores NOTES.
    Raises ModelError for any other content, a damaged file, or a model of another kind.
    """
    content = unpickle(path)
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}, expected a mapping of tensors; give another file")
    state = next((content[entry] for entry in ENTRIES if isinstance(content.get(entry), Mapping)), content)
    problem = no_state_dict(state)
    if problem:
        raise ModelError(f"{path}: no state dict found ({problem}); expected one, or one under 'model' or 'state_dict'")
    return read_published(state, str(path), _classes(content, path))


def no_state_dict(content: Mapping[Any, Any]) -> str:
    """Return why `content` is not a dict of tensors by name; empty if it is."""
    strange = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange:
        return f"'{some([str(strange[0])])}' is not a tensor"
    return "" if content else "it is empty"


def unpickle(path: Path) -> Any:
    """Read tensors, numbers, strings and plain containers of a .pth file, on the CPU.

    Raises ModelError for other content, and for a file that states more data than it has (see `check_torch_file`).
    """
    try:
        check_torch_file(path, NOTES)
        with warnings.catch_warnings(), safe_globals([(Note, name) for name in NOTES]):
            warnings.simplefilter("ignore")  # warnings about old pickle formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a truncated file may raise any exception
        if reason := missing_content_of(path):
            raise ModelError(f"{path}: {reason}") from None
        cause = f" ({one_line(str(error))})" if isinstance(error, Refused) else ""
        raise ModelError(
            f"{path}: damaged, or holds more than tensors and plain containers{cause}; refused, and nothing in it was "
            "run"
        ) from None


def _classes(content: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    """Return the class names in a file of mmdetection or of a mirror; an empty tuple for other files."""
    by_label = content.get("names")
    if isinstance(by_label, Mapping) and set(by_label) == set(range(len(by_label))):
        content = {"meta": {"classes": [by_label[label] for label in range(len(by_label))]}}
    notes = content.get("meta")
    notes = notes.get("dataset_meta", notes) if isinstance(notes, Mapping) else {}
    if not isinstance(notes, Mapping):
        return ()
    names = next((notes[key] for key in ("classes", "CLASSES") if notes.get(key) is not None), ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ModelError(
            f"{path}: meta.classes is not a list of names; expected one name for each class, or none at all"
        )
    return tuple(names)
