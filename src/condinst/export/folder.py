"""`condinst export`: make the programs, compare them with the model, then write the folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.data.open import open_data
from condinst.errors import CondinstError, UsageError
from condinst.export.card import program_section
from condinst.export.check import (
    FLOAT_LOSS,
    NARROW_LOSS,
    Contestant,
    Measured,
    Say,
    differences_on,
    find_check_data,
    measure_all,
    refuse_differences,
    refuse_loss,
)
from condinst.export.compare import Difference
from condinst.export.formats.example import make_example
from condinst.export.formats.int8 import to_int8
from condinst.export.formats.onnx_file import Size, to_onnx
from condinst.export.formats.openvino_file import import_openvino, save_openvino, to_openvino
from condinst.export.formats.torch_file import save_executorch, save_torch, to_torch
from condinst.export.names import (
    EXAMPLE_FILE,
    EXECUTORCH_FILE,
    INT8_FILE,
    ONNX_FILE,
    OPENVINO_FILE,
    TORCH_FILE,
    Format,
    fingerprint,
)
from condinst.inference.settings import with_settings
from condinst.model.condinst import CondInst
from condinst.weights.card import is_own_card, make_card
from condinst.weights.folder import load_model, read_config
from condinst.weights.names import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

FILES: dict[Format, str] = {
    "onnx": ONNX_FILE,
    "openvino": OPENVINO_FILE,
    "torch": TORCH_FILE,
    "executorch": EXECUTORCH_FILE,
}


class Wish(NamedTuple):
    """What to export.

    model: as in `Predictor`. int8: data for the ranges of 8-bit values, or None. fixed: (height, width) of the only
    input size, or None for any size. check: pictures or one annotated data set to compare program and model on; without
    any, the pictures that come with the package. max_detections, nms: other values than the model's settings.
    """

    model: str
    format: Format
    out: Path
    int8: Path | None = None
    fixed: Size | None = None
    check: tuple[Path, ...] = ()
    max_detections: int | None = None
    nms: str | None = None


class Checked(NamedTuple):
    """The outcome of an export. differences: one for each picture. measured: AP of model and programs, if asked for."""

    differences: list[Difference]
    measured: list[Measured]


def export_model(wish: Wish, say: Say = lambda text: None) -> Checked:
    """Export a model: write the program, its settings, a card and an example to `wish.out`.

    The function compares the program with the model before it writes the folder. say: called with one line for each
    step. Raises UsageError, DataError or ModelError for a wrong argument, CondinstError if the program differs from the
    model by more than the limits; the folder then stays as it was.
    """
    if wish.int8 is not None and wish.format != "openvino":
        raise UsageError(f"--int8 goes with --format openvino, not {wish.format}")
    if wish.int8 is not None and wish.fixed is not None:
        raise UsageError("--int8 makes a program for any size; leave --fixed out")
    model, config = load_model(wish.model)
    config = with_settings(config, max_detections=wish.max_detections, nms=wish.nms)
    check_out(wish.out, config)
    data, pictures = find_check_data(wish.check, say)
    calibration = None if wish.int8 is None else open_data(wish.int8, "train")
    with _workshop(wish.out) as shop:
        (shop / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
        say(f"making {FILES[wish.format]}")
        _make(wish, config, model, shop)
        say(f"comparing with the model on {len(pictures)} pictures")
        differences = differences_on(wish.format, shop / FILES[wish.format], model, config, pictures, wish.fixed)
        refuse_differences(differences)
        if calibration is not None:
            say(f"making {INT8_FILE} with the values of {wish.int8}")
            program = import_openvino().Core().read_model(shop / OPENVINO_FILE)
            save_openvino(to_int8(program, config, calibration), shop / INT8_FILE)
        measured = [] if data is None else measure_all(_contestants(wish, shop), config, data, say)
        refuse_loss(measured)
        section = program_section(FILES[wish.format], config, wish.fixed, differences, measured)
        (shop / CARD_FILE).write_text(make_card(config) + "\n" + section, encoding="utf-8")
        if wish.format in {"onnx", "openvino"}:
            example = make_example(config, wish.format == "openvino", wish.fixed)
            (shop / EXAMPLE_FILE).write_text(example, encoding="utf-8")
        _move(shop, wish.out)
    return Checked(differences, measured)


def _contestants(wish: Wish, shop: Path) -> list[Contestant]:
    """The model and the programs that a predictor can run."""
    found = [Contestant("the model", wish.model, "exact", 0)]
    if wish.fixed is None and wish.format in {"onnx", "openvino"}:
        found.append(Contestant(FILES[wish.format], shop / FILES[wish.format], None, FLOAT_LOSS))
    if wish.fixed is None and wish.format == "openvino":
        found.append(Contestant(f"{OPENVINO_FILE} with --mode fast", shop / OPENVINO_FILE, "fast", NARROW_LOSS))
    if wish.int8 is not None:
        found.append(Contestant(INT8_FILE, shop / INT8_FILE, "int8", NARROW_LOSS))
    return found


def check_out(out: Path, config: Config) -> None:
    """Raise UsageError unless `out` is new, empty, or a folder of the same model."""
    try:
        present = {path.name for path in out.iterdir()} if out.exists() else set()
        foreign_card = CARD_FILE in present and not is_own_card((out / CARD_FILE).read_bytes())
    except OSError as error:
        raise UsageError(f"{out}: cannot be used as a folder ({error.strerror}); choose another one") from None
    if not present:
        return
    if CONFIG_FILE not in present:
        raise UsageError(f"{out}: the folder has other files; choose a new or empty folder, or the model's own folder")
    if fingerprint(read_config(out / CONFIG_FILE)) != fingerprint(config):
        raise UsageError(f"{out}: the folder holds another model; choose a new or empty folder")
    if foreign_card:
        raise UsageError(f"{out / CARD_FILE}: condinst did not write this file; move it or choose another folder")


def _make(wish: Wish, config: Config, model: CondInst, shop: Path) -> None:
    path = shop / FILES[wish.format]
    if wish.format in {"torch", "executorch"}:
        program = to_torch(model, config, wish.fixed)
        if wish.format == "torch":
            save_torch(program, config, path)
        else:
            save_executorch(program, path)
        return
    if wish.format == "openvino":
        import_openvino()  # say at once that the package is missing
    proto = to_onnx(model, config, wish.fixed)
    if wish.format == "onnx":
        path.write_bytes(proto.SerializeToString())
    else:
        save_openvino(to_openvino(proto, config), path)


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, removed at the end. Raises CondinstError if it cannot be made."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise CondinstError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    try:
        yield shop
    except OSError as error:
        raise CondinstError(f"{out}: cannot be written ({error.strerror or error}); free some space") from error
    finally:
        shutil.rmtree(shop, ignore_errors=True)


def _move(shop: Path, out: Path) -> None:
    """Move the finished files to `out`. A model folder keeps its own settings."""
    out.mkdir(parents=True, exist_ok=True)
    keep = {CONFIG_FILE} if (out / WEIGHTS_FILE).exists() else set()
    for path in sorted(shop.iterdir()):
        if path.name not in keep:
            os.replace(path, out / path.name)
