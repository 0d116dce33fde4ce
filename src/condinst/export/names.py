"""File names, tensor names and notes of exported programs."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

from condinst.config import Config
from condinst.errors import ModelError
from condinst.structures import STRIDES, HeadOutput

Format = Literal["onnx", "openvino", "torch", "executorch"]
ONNX_FILE, OPENVINO_FILE, INT8_FILE = "model.onnx", "model.xml", "int8.xml"
TORCH_FILE, EXECUTORCH_FILE = "model.pt2", "model.pte"
PROGRAM_SUFFIXES = (".onnx", ".xml")  # programs that a Predictor can run
EXAMPLE_FILE = "example.py"
INPUT = "images"
OUTPUTS = ("boxes", "scores", "labels", "count", "mask_logits")
# The tensors between the network and the detection. The programs keep their names, so that a Predictor can cut there.
NETWORK_TENSORS = (
    *(f"{field}_p{level}" for field in HeadOutput._fields for level in range(3, 3 + len(STRIDES))),
    "mask_features",
    "controller_weight",
    "controller_bias",
)
VERSION = "1"  # of these names and notes


class Notes(NamedTuple):
    """What a program says about itself. condinst_version: `VERSION`. model: `fingerprint` of the settings."""

    condinst_program: str
    model: str


def notes_of(config: Config) -> Notes:
    """The notes of a program made from a model with these settings."""
    return Notes(VERSION, fingerprint(config))


def fingerprint(config: Config) -> str:
    """A digest of the settings that a program contains: those of the network."""
    return hashlib.sha256(config.model.model_dump_json().encode()).hexdigest()[:16]


def check_notes(found: Notes, config: Config, place: str) -> None:
    """Raise ModelError if a program is of another version or does not belong to `config`."""
    if not found.condinst_program:
        raise ModelError(f"{place}: condinst export did not make this program; export the model with `condinst export`")
    if found.condinst_program != VERSION:
        raise ModelError(
            f"{place}: a program of format {found.condinst_program[:20]!r}, and this condinst reads format {VERSION}; "
            "export the model again"
        )
    if found.model != fingerprint(config):
        raise ModelError(
            f"{place}: made from a model with other settings than the config.yaml beside it; keep the files of one "
            "export together, or export the model again"
        )
