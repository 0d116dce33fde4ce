"""File names, tensor names and notes of exported programs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

from condinst.config import Config
from condinst.errors import ModelError
from condinst.settings.model import ModelConfig
from condinst.structures import HeadOutput
from condinst.weights.fetch import digest
from condinst.weights.names import WEIGHTS_FILE

Format = Literal["onnx", "openvino", "torch", "executorch"]
ONNX_FILE, OPENVINO_FILE, INT8_FILE = "model.onnx", "model.xml", "int8.xml"
TORCH_FILE, EXECUTORCH_FILE = "model.pt2", "model.pte"
FILES: dict[Format, str] = {
    "onnx": ONNX_FILE,
    "openvino": OPENVINO_FILE,
    "torch": TORCH_FILE,
    "executorch": EXECUTORCH_FILE,
}
PROGRAMS = (*FILES.values(), INT8_FILE)
PROGRAM_SUFFIXES = (".onnx", ".xml")  # programs that a Predictor can run
EXAMPLE_FILE = "example.py"
INPUT = "images"
FIRST_LEVEL = 3  # P3
OUTPUTS = ("boxes", "scores", "labels", "count", "mask_logits")
VERSION = "1"  # of these names and notes


def network_tensors(model: ModelConfig) -> tuple[str, ...]:
    """The names of the tensors between the network and the detection, in the order of `NetworkOutput`.

    The programs keep these names, so that a Predictor can cut there.
    """
    fields = [name for name in HeadOutput._fields if model.geometry.centerness or name != "centerness_logits"]
    levels = range(FIRST_LEVEL, FIRST_LEVEL + len(model.geometry.strides))
    controller = ("controller_weight", "controller_bias") if model.method == "condinst" else ()
    return (*(f"{field}_p{level}" for field in fields for level in levels), "mask_features", *controller)


def programs_in(folder: Path) -> tuple[str, ...]:
    """The names of the exported programs in a folder."""
    return tuple(name for name in PROGRAMS if (folder / name).is_file())


def program_size(path: Path) -> int:
    """The bytes of a program, with the weights that OpenVINO keeps in a file of their own."""
    weights = path.with_suffix(".bin")
    parts = (path, weights) if path.suffix == ".xml" and weights.is_file() else (path,)
    return sum(part.stat().st_size for part in parts)


class Notes(NamedTuple):
    """What a program says about itself.

    condinst_program: `VERSION`. model: `fingerprint` of the settings. weights: `weights_mark` of the model's weights.
    """

    condinst_program: str
    model: str
    weights: str


def notes_of(config: Config, weights: Path) -> Notes:
    """The notes of a program made from a model with these settings and the weights in this file."""
    return Notes(VERSION, fingerprint(config), weights_mark(weights))


def fingerprint(config: Config) -> str:
    """A digest of the settings that a program contains: those of the network.

    Settings with their default value do not count, so that a setting of a later version leaves the digest as it is.
    """
    return hashlib.sha256(config.model.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]


def weights_mark(path: Path) -> str:
    """The first digits of the SHA-256 of a file of weights."""
    return digest(path)[:32]


def check_notes(found: Notes, config: Config, path: Path) -> None:
    """Raise ModelError if a program is of another version, or not of the model with `config` and the weights beside it.

    path: of the program.
    """
    if not found.condinst_program:
        raise ModelError(f"{path}: condinst export did not make this program; export the model with `condinst export`")
    if found.condinst_program != VERSION:
        raise ModelError(
            f"{path}: a program of format {found.condinst_program[:20]!r}, and this condinst reads format {VERSION}; "
            "export the model again"
        )
    if found.model != fingerprint(config):
        raise ModelError(
            f"{path}: made from a model with other settings than the config.yaml beside it; keep the files of one "
            "export together, or export the model again"
        )
    weights = path.parent / WEIGHTS_FILE
    if weights.is_file() and found.weights != weights_mark(weights):
        raise ModelError(
            f"{path}: made from other weights than the {WEIGHTS_FILE} beside it; export the model again, or use mode "
            "exact"
        )
