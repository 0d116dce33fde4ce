"""`condinst export`: make the programs, compare them with the model, then write the folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.data.open import open_data
from condinst.errors import UsageError
from condinst.export.card import program_section, with_section
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
from condinst.export.formats.int8 import import_nncf, spread, to_int8
from condinst.export.formats.onnx_file import Size, check_size, import_onnx, to_onnx
from condinst.export.formats.openvino_file import import_openvino, save_openvino, to_openvino
from condinst.export.formats.program import check_exportable
from condinst.export.formats.torch_file import import_executorch, save_executorch, save_torch, to_torch
from condinst.export.names import EXAMPLE_FILE, FILES, INT8_FILE, OPENVINO_FILE, Format, Notes, notes_of
from condinst.export.openvino_core import openvino_core
from condinst.export.runtime import import_onnxruntime
from condinst.export.target import check_out, move, workshop
from condinst.inference.settings import with_settings
from condinst.methods.choose import build_network
from condinst.model.instance_network import InstanceNetwork
from condinst.weights.card import make_card
from condinst.weights.folder import fill_model, read_model
from condinst.weights.names import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE


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
    stored = read_model(wish.model)
    config = with_settings(stored.config, max_detections=wish.max_detections, nms=wish.nms)
    notes = notes_of(config, stored.path)
    _check(wish, config)
    check_out(wish.out, notes, _files(wish))
    data, pictures = find_check_data(wish.check, say)
    calibration = None if wish.int8 is None else open_data(wish.int8, "train")
    model = build_network(config.model)
    fill_model(model, stored)
    with workshop(wish.out) as shop:
        (shop / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
        say(f"making {FILES[wish.format]}")
        _make(wish, config, notes, model, shop)
        say(f"comparing with the model on {len(pictures)} pictures")
        differences = differences_on(wish.format, shop / FILES[wish.format], model, config, pictures, wish.fixed)
        refuse_differences(differences)
        if calibration is not None:
            say(f"making {INT8_FILE} with the values of {wish.int8}")
            program = openvino_core().read_model(shop / OPENVINO_FILE)
            save_openvino(to_int8(program, config, notes, spread(calibration)), shop / INT8_FILE)
        measured = [] if data is None else measure_all(_contestants(wish, shop), config, data, say)
        refuse_loss(measured)
        section = program_section(FILES[wish.format], config, wish.fixed, differences, measured)
        _write_words(wish, config, section, shop)
        say(f"writing {wish.out}")
        move(shop, wish.out)
    return Checked(differences, measured)


def _files(wish: Wish) -> set[str]:
    """The names of the programs that the export writes."""
    return {FILES[wish.format]} | ({INT8_FILE} if wish.int8 is not None else set())


def _check(wish: Wish, config: Config) -> None:
    """Raise UsageError for what does not fit, before the slow work begins."""
    check_exportable(config)
    if wish.fixed is not None:
        check_size(wish.fixed, config)
    elif wish.format in {"torch", "executorch"}:
        raise UsageError(
            f"--format {wish.format} needs the size of the pictures; add --fixed HEIGHTxWIDTH, for example 640x640"
        )
    if config.model.backbone.deformable_interval and wish.format in {"openvino", "executorch"}:
        raise UsageError(
            f"--format {wish.format}: the runtime has no deformable convolutions; export this model to onnx, or keep "
            "the model folder"
        )
    if wish.format in {"onnx", "openvino"}:
        import_onnx()
    if wish.format == "onnx":
        import_onnxruntime(wish.out)  # for the comparison
    if wish.format == "openvino":
        import_openvino()
    if wish.format == "executorch":
        import_executorch()
    if wish.int8 is not None:
        import_nncf()
    if wish.fixed is not None and wish.format == "openvino" and (wish.out / WEIGHTS_FILE).exists():
        raise UsageError(
            f"{wish.out}: holds the model, which would then predict with this program and take one size only; choose "
            "another folder, or leave --fixed out"
        )


def _write_words(wish: Wish, config: Config, section: str, shop: Path) -> None:
    """Write the card and the example. A card that is already in the folder keeps its text and its other sections."""
    card = wish.out / CARD_FILE
    before = card.read_text(encoding="utf-8") if card.exists() else make_card(config)
    (shop / CARD_FILE).write_text(with_section(before, section), encoding="utf-8")
    if wish.format in {"onnx", "openvino"}:
        example = make_example(config, wish.format == "openvino", wish.fixed)
        (shop / EXAMPLE_FILE).write_text(example, encoding="utf-8")


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


def _make(wish: Wish, config: Config, notes: Notes, model: InstanceNetwork, shop: Path) -> None:
    path = shop / FILES[wish.format]
    if wish.format in {"torch", "executorch"}:
        program = to_torch(model, config, wish.fixed)
        if wish.format == "torch":
            save_torch(program, notes, path)
        else:
            save_executorch(program, path)
        return
    proto = to_onnx(model, config, notes, wish.fixed)
    if wish.format == "onnx":
        path.write_bytes(proto.SerializeToString())
    else:
        save_openvino(to_openvino(proto, notes), path)
