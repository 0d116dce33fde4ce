"""The folder that an export writes to: what it may hold, and how the finished files get there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condinst.errors import CondinstError, UsageError
from condinst.export.formats.example import FIRST_WORDS
from condinst.export.names import EXAMPLE_FILE, INT8_FILE, ONNX_FILE, OPENVINO_FILE, Notes, fingerprint, weights_mark
from condinst.weights.card import is_own_card
from condinst.weights.folder import read_config
from condinst.weights.names import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

PROGRAMS = {ONNX_FILE, OPENVINO_FILE, INT8_FILE}  # their notes are readable bytes
PART = ".part"  # the end of the name of an unfinished folder


def check_out(out: Path, notes: Notes, replaced: set[str]) -> None:
    """Raise UsageError unless `out` is new, empty, or a folder of the same model.

    notes: of the program to write. replaced: the programs that the export writes anew.
    """
    try:
        present = {path.name for path in out.iterdir() if not path.name.endswith(PART)} if out.exists() else set()
        heads = {name: (out / name).read_bytes() for name in {CARD_FILE, EXAMPLE_FILE} & present}
        other = WEIGHTS_FILE in present and weights_mark(out / WEIGHTS_FILE) != notes.weights
        kept = sorted(PROGRAMS & present - replaced)
        older = [name for name in kept if notes.weights.encode() not in (out / name).read_bytes()]
    except OSError as error:
        raise UsageError(f"{out}: cannot be used as a folder ({error.strerror}); choose another one") from None
    if present and CONFIG_FILE not in present:
        raise UsageError(f"{out}: the folder has other files; choose a new or empty folder, or the model's own folder")
    if other or (present and fingerprint(read_config(out / CONFIG_FILE)) != notes.model):
        raise UsageError(f"{out}: the folder holds another model; choose a new or empty folder")
    for name, content in heads.items():
        own = is_own_card(content) if name == CARD_FILE else content.startswith(FIRST_WORDS.encode())
        if not own:
            raise UsageError(f"{out / name}: condinst did not write this file; move it or choose another folder")
    if older:
        raise UsageError(f"{out / older[0]}: made from other weights; remove the file or choose another folder")


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `out`, removed at the end. Raises CondinstError if it cannot be made."""
    inside = out.is_dir()  # a folder that exists may be a disk of its own
    parent = out if inside else out.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=PART, dir=parent))
    except OSError as error:
        raise CondinstError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    try:
        yield shop
    except OSError as error:
        raise CondinstError(f"{out}: cannot be written ({error.strerror or error}); free some space") from error
    finally:
        shutil.rmtree(shop, ignore_errors=True)


def move(shop: Path, out: Path) -> None:
    """Move the finished files to `out`. A model folder keeps its own settings."""
    out.mkdir(parents=True, exist_ok=True)
    keep = {CONFIG_FILE} if (out / WEIGHTS_FILE).exists() else set()
    for path in sorted(shop.iterdir()):
        if path.name not in keep:
            os.replace(path, out / path.name)
