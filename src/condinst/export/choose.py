"""Choose between the network in PyTorch and an exported program."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.errors import ModelError, UsageError
from condinst.export.names import (
    EXECUTORCH_FILE,
    INT8_FILE,
    ONNX_FILE,
    OPENVINO_FILE,
    PROGRAM_SUFFIXES,
    TORCH_FILE,
)
from condinst.inference.network import MODES, Mode
from condinst.weights.folder import read_config
from condinst.weights.licence import announce_licence
from condinst.weights.names import CONFIG_FILE, WEIGHTS_FILE, is_name


class Choice(NamedTuple):
    """What a predictor runs. path: an exported program, or None for the network in PyTorch."""

    path: Path | None
    mode: Mode

    def read_config(self) -> Config:
        """The settings beside the program. Raises ModelError. Prints the licence of weights with restrictions."""
        assert self.path is not None
        config = read_config(self.path.parent / CONFIG_FILE)
        announce_licence(config, str(self.path))
        return config


def choose(source: str | Path, mode: str | None, device: str | None) -> Choice:
    """Choose the program for a predictor.

    source: as in `Predictor`. The file of the weights runs in PyTorch. In a folder, mode None takes OpenVINO if the
    folder has such a program, and "exact" otherwise. "fast" takes OpenVINO, too, if the folder has such a program.
    "openvino" and "int8" need a program in the folder. An exported program is only chosen for the CPU. Raises
    UsageError for a mode that does not fit.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"mode '{mode}': expected one of {', '.join(MODES)}")
    if is_name(source):
        if mode in {"openvino", "int8"}:
            raise UsageError(_export_first(str(source), mode, "my_model"))
        return Choice(None, _torch_mode(mode))
    path = Path(source)
    if path.suffix in PROGRAM_SUFFIXES:
        return _named(path, mode, device)
    if not _is_folder(path):
        if mode in {"openvino", "int8"}:
            if path.name == WEIGHTS_FILE:
                raise UsageError(f"mode '{mode}' needs the model's folder, not its weights; give {path.parent}")
            raise UsageError(_export_first(str(source), mode, "my_model"))
        return Choice(None, _torch_mode(mode))
    return _in_folder(path, mode, device)


def _in_folder(folder: Path, mode: str | None, device: str | None) -> Choice:
    """The choice in a folder."""
    if not (folder / WEIGHTS_FILE).is_file():
        return _only_program(folder, mode, device)
    if mode in {"openvino", "int8"}:
        program = folder / (INT8_FILE if mode == "int8" else OPENVINO_FILE)
        if not program.is_file():
            raise UsageError(_export_first(str(folder), mode, str(folder)))
        return _named(program, mode, device)
    ready = (folder / OPENVINO_FILE).is_file() and find_spec("openvino") and device in {None, "cpu"}
    if ready and mode in {None, "fast"} and (device == "cpu" or not _has_cuda()):
        return Choice(folder / OPENVINO_FILE, "fast" if mode == "fast" else "openvino")
    return Choice(None, _torch_mode(mode))


def _named(path: Path, mode: str | None, device: str | None) -> Choice:
    """The choice of a program that the user named."""
    if not path.is_file():
        raise ModelError(f"model {path}: no such file")
    if device not in {None, "cpu"}:
        raise UsageError(f"{path}: an exported program runs on the CPU; leave --device out, or give the model folder")
    own: Mode = "int8" if path.name == INT8_FILE else "openvino" if path.suffix == ".xml" else "exact"
    if mode in {None, own} or (mode == "exact" and own == "openvino"):
        return Choice(path, own)
    if mode == "fast" and own == "openvino":
        return Choice(path, "fast")
    fits = "openvino or fast" if own == "openvino" else own
    raise UsageError(f"{path}: mode '{mode}' does not fit this program; use {fits}, or give the model folder")


def _only_program(folder: Path, mode: str | None, device: str | None) -> Choice:
    """The choice in a folder without weights for PyTorch."""
    if mode == "int8" or not ((folder / OPENVINO_FILE).is_file() or (folder / ONNX_FILE).is_file()):
        program = folder / INT8_FILE
        if program.is_file():
            return _named(program, mode, device)
        for name in (TORCH_FILE, EXECUTORCH_FILE):
            if (folder / name).is_file():
                raise UsageError(
                    f"{folder / name}: condinst does not run this kind of program; export the model to onnx or openvino"
                )
        return Choice(None, _torch_mode(mode))
    openvino = (folder / OPENVINO_FILE).is_file() and (find_spec("openvino") or not (folder / ONNX_FILE).is_file())
    return _named(folder / (OPENVINO_FILE if openvino else ONNX_FILE), mode, device)


def _torch_mode(mode: str | None) -> Mode:
    if mode in {"openvino", "int8"}:
        raise UsageError(
            f"mode '{mode}' needs an exported program in the model's folder; make one with condinst export"
        )
    return "exact" if mode is None else mode  # type: ignore[return-value]  # checked by `choose`


def _export_first(source: str, mode: str | None, folder: str) -> str:
    more = " --int8 DATA" if mode == "int8" else ""
    return (
        f"mode '{mode}' needs an exported program in the model's folder; make one: condinst export --model {source} "
        f"--format openvino{more} --out {folder}"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
