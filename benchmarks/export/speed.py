"""Exported programs beside PyTorch, the reference and YOLO, 100 instances each; each in a process of its own.

    python -m benchmarks.export.speed

At 640×640: the shipped nuclei model, and YOLO11n-seg and YOLO26n-seg with random weights, in PyTorch and as their own
OpenVINO export, each through its own prediction call. At 800×1333: the R50-FPN model beside the reference, the
published way in plain PyTorch. Programs in 8 bit are calibrated on the timed pictures, because only time counts here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import rivals, stages
from benchmarks.speed.measure import (
    RESULTS,
    KeepPages,
    Measurement,
    Out,
    Rounds,
    Threads,
    Work,
    race_apart,
    run_benchmark,
    save,
    set_threads,
)
from benchmarks.speed.models.busy import busy_config, busy_model, busy_picture
from benchmarks.speed.models.norms import settle_norms
from condinst.config import Config
from condinst.errors import CondinstError
from condinst.export.formats.int8 import to_int8
from condinst.export.formats.onnx_file import to_onnx
from condinst.export.formats.openvino_file import save_openvino, to_openvino
from condinst.export.names import INT8_FILE, ONNX_FILE, OPENVINO_FILE, VERSION, Notes, fingerprint
from condinst.inference.settings import with_settings
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.weights.folder import load_model
from condinst.weights.names import CONFIG_FILE

ME = "benchmarks.export.speed"
EAGER = ("exact", "fast")
PROGRAMS: Mapping[str, tuple[str, str | None]] = {
    "ONNX Runtime": (ONNX_FILE, None),
    "OpenVINO": (OPENVINO_FILE, None),
    "OpenVINO, 16 bit": (OPENVINO_FILE, "fast"),
    "OpenVINO, 8 bit": (INT8_FILE, None),
}
YOLOS = ("YOLO11n-seg", "YOLO26n-seg")
EXPORTED = ", its OpenVINO export"
NUCLEI, R50 = rivals.AT_640, rivals.AT_800


def main(rounds: Rounds = 9, threads: Threads = 0, keep_pages: KeepPages = False, out: Out = RESULTS) -> None:
    """Latency of everyone."""
    set_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        set_threads(threads)  # ultralytics changes the number
        measurements: list[Measurement] = []
        for what, names in (
            (NUCLEI, [*EAGER, *PROGRAMS, *YOLOS, *(name + EXPORTED for name in YOLOS)]),
            (R50, [stages.REFERENCE, *EAGER, *PROGRAMS]),
        ):
            given = {who: {"what": what, "who": who, "folder": folder} for who in names}
            measurements += race_apart(ME, "contestant", what, given, rounds, "cpu")
    settings = {
        "instances": str(stages.DETECTIONS),
        NUCLEI: "the shipped nuclei model, RLE masks; YOLO with random weights, its own predict",
        R50: stages.MODEL,
    }
    save("exported", "cpu", settings, measurements, out, keep_pages)


def prepare(folder: Path) -> None:
    """Write the programs of both models and of YOLO."""
    nuclei, config = load_model("nuclei")
    _programs(
        nuclei, with_settings(config, max_detections=stages.DETECTIONS), rivals.nuclei_picture(), folder / "nuclei"
    )
    busy = busy_config(stages.DETECTIONS)
    _programs(busy_model(busy), busy, busy_picture(*stages.SMALL), folder / "r50")
    home = Path.cwd()
    os.chdir(folder)  # ultralytics writes its exports to the current folder
    try:
        for who in YOLOS:
            network = rivals.load_yolo(rivals.YOLOS[who][0])
            settle_norms(network.model, _tensor())
            network.export(format="openvino", imgsz=rivals.SIDE)
    finally:
        os.chdir(home)


def _tensor() -> torch.Tensor:
    return torch.from_numpy(rivals.nuclei_picture().copy()).permute(2, 0, 1)[None] / 255


def _programs(model: CondInst, config: Config, picture: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(config.to_yaml())
    notes = Notes(VERSION, fingerprint(config), "")
    proto = to_onnx(model, config, notes)
    (folder / ONNX_FILE).write_bytes(proto.SerializeToString())
    program = to_openvino(proto, notes)
    save_openvino(program, folder / OPENVINO_FILE)
    save_openvino(to_int8(program, config, notes, [picture]), folder / INT8_FILE)


def contestant(what: str, who: str, folder: str, device: str) -> Work:
    """Picture in, instances out, by whoever it is."""
    if who.removesuffix(EXPORTED) in YOLOS:
        return _yolo(who, folder)
    if who in PROGRAMS:
        file, mode = PROGRAMS[who]
        path = Path(folder) / ("nuclei" if what == NUCLEI else "r50") / file
        predictor = Predictor(path, device, None, mode=mode)  # type: ignore[arg-type]
        picture = rivals.nuclei_picture() if what == NUCLEI else busy_picture(*stages.SMALL)
        return partial(_run, predictor, picture)
    if what == NUCLEI:
        return rivals.contestant(what, who, device)
    return stages.contestant(who, *stages.SMALL, device)


def _run(predictor: Predictor, picture: Any) -> Mapping[str, float]:
    result = predictor(picture)
    if not stages.DETECTIONS <= len(result) <= 1.05 * stages.DETECTIONS:
        raise CondinstError(f"{len(result)} instances instead of {stages.DETECTIONS}")
    return result.speed


def _yolo(who: str, folder: str) -> Work:
    name = who.removesuffix(EXPORTED)
    if who == name:
        return rivals.contestant(NUCLEI, who, "cpu")
    import ultralytics

    exported = ultralytics.YOLO(f"{folder}/{rivals.YOLOS[name][0]}_openvino_model", task="segment")
    network = rivals.load_yolo(rivals.YOLOS[name][0])
    settle_norms(network.model, _tensor())
    return rivals.yolo_work(exported, who, {"conf": rivals.yolo_threshold(network, _tensor())})


if __name__ == "__main__":
    run_benchmark(main)
