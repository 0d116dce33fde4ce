"""A model as an OpenVINO program: an .xml file with the operations and a .bin file with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.errors import CondinstError, UsageError, first_line
from condinst.export.names import Notes
from condinst.export.openvino_core import openvino_core

if TYPE_CHECKING:
    import onnx

EXTRA = "condinst[openvino]"


def to_openvino(proto: onnx.ModelProto, notes: Notes) -> Any:
    """The OpenVINO model of an ONNX program of `to_onnx`, with these notes. Raises UsageError for a missing package."""
    import_openvino()
    try:
        program = openvino_core().read_model(proto.SerializeToString(), b"")
    except RuntimeError as error:
        raise CondinstError(f"the model cannot be converted to OpenVINO ({_reason(error):.200})") from error
    return with_notes(program, notes)


def _reason(error: RuntimeError) -> str:
    """The line of OpenVINO's message that names what is missing; the first lines name files of its own code."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("No conversion rule")), first_line(error))


def with_notes(program: Any, notes: Notes) -> Any:
    """Write the notes into an OpenVINO model and return the model."""
    for name, value in notes._asdict().items():
        program.set_rt_info(value, [name])
    return program


def save_openvino(program: Any, path: Path) -> None:
    """Write `path` and the file of the weights beside it, in float32. Raises OSError if that fails."""
    try:
        import_openvino().save_model(program, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # the type for a full disk, too
        raise OSError(first_line(error)) from error


def import_openvino() -> Any:
    """The package openvino. Raises UsageError if it is missing."""
    try:
        import openvino
    except ImportError:
        raise UsageError(f"export to OpenVINO needs the package openvino; install it: pip install '{EXTRA}'") from None
    return openvino
