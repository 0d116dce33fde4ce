"""How much exported programs differ from the models: three sizes and three batches, in ONNX Runtime and OpenVINO.

    python -m benchmarks.export.parity

The models are the shipped ones, and R50-FPN with 80 classes, its weights filled by formula
(benchmarks/speed/models/busy.py). The pictures are those of `condinst export`, resized to each size. Writes
benchmarks/results/export-parity.json.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from benchmarks.facts import RESULTS, Facts, run_command
from benchmarks.speed.models.busy import busy_config, busy_model
from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.transforms import resize_image
from condinst.errors import CondinstError, first_line
from condinst.export.compare import Found, answer_of_model, answer_of_program, compare, own_pictures
from condinst.export.formats.onnx_file import to_onnx
from condinst.export.formats.openvino_file import save_openvino, to_openvino
from condinst.export.names import ONNX_FILE, OPENVINO_FILE, VERSION, Notes, fingerprint
from condinst.export.runtime import run_whole
from condinst.files import replace_file
from condinst.inference.network import make_network
from condinst.model.instance_network import InstanceNetwork
from condinst.sources.read import read_source
from condinst.structures import Images
from condinst.weights.folder import load_model
from condinst.weights.names import shipped_names

COMMAND = "python -m benchmarks.export.parity"
R50 = "R50-FPN"
SIZES, BATCHES = ((320, 320), (640, 832), (800, 1344)), (1, 2, 3)
PACKAGES = ("condinst", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")
Runtime = Literal["ONNX Runtime", "OpenVINO"]
FILES: dict[Runtime, str] = {"ONNX Runtime": ONNX_FILE, "OpenVINO": OPENVINO_FILE}


class Difference(Facts):
    """A program beside its model, for one batch.

    instances: of the model and of the program, in all pictures. alone: instances that only one of them has. box: the
    largest difference of a corner, in pixels. score: of a score. cells, of: mask cells on different sides of the
    border, and all. close: the largest absolute logit of the model in such a cell; 0 without one. typical: the mean
    absolute logit.
    """

    model: str
    runtime: Runtime
    height: int
    width: int
    batch: int
    instances: tuple[int, int]
    alone: int
    box: float
    score: float
    cells: int
    of: int
    close: float
    typical: float


class Report(Facts):
    """The whole of the JSON file."""

    command: str
    versions: dict[str, str]
    differences: tuple[Difference, ...]


def main(out: Annotated[Path, typer.Option(help="The file to write.")] = RESULTS / "export-parity.json") -> None:
    """Compare all programs with their models."""
    rows: list[Difference] = []
    for name in (*shipped_names(), R50):
        model, config = (busy_model(busy_config()), busy_config()) if name == R50 else load_model(name)
        with tempfile.TemporaryDirectory() as folder:
            for row in compare_all(name, model, config, Path(folder), tuple(FILES), SIZES, BATCHES):
                print(row, flush=True)
                rows.append(row)
    report = Report(command=COMMAND, versions=versions(), differences=tuple(rows))
    replace_file(out, report.model_dump_json(indent=1).encode() + b"\n")


def versions() -> dict[str, str]:
    """Of the packages that take part."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def compare_all(
    name: str,
    model: InstanceNetwork,
    config: Config,
    folder: Path,
    runtimes: Sequence[Runtime],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
) -> Iterator[Difference]:
    """Export a model to `folder` and compare the programs with it. Raises CondinstError, also for a runtime's error."""
    notes = Notes(VERSION, fingerprint(config), "")
    proto = to_onnx(model, config, notes)
    (folder / ONNX_FILE).write_bytes(proto.SerializeToString())
    if "OpenVINO" in runtimes:
        save_openvino(to_openvino(proto, notes), folder / OPENVINO_FILE)
    network = make_network(model, "exact", torch.device("cpu"), config.model.size_divisor)
    for size in sizes:
        for batch in batches:
            images = batch_of(config, size, batch)
            expected = answer_of_model(network, images, config)
            for runtime in runtimes:
                try:
                    found = answer_of_program(run_whole(folder / FILES[runtime], images.tensor))
                except Exception as error:  # the runtimes have no common type
                    raise CondinstError(f"{runtime}: {first_line(error):.300}") from error
                yield join(name, runtime, size, expected, found)


def batch_of(config: Config, size: tuple[int, int], count: int) -> Images:
    """The first pictures of `condinst export` in this size, as one batch."""
    look = (config.model.pixel_mean, config.model.pixel_std, config.model.channel_order, config.model.size_divisor)
    arrays = [resize_image(read_source(path).array, *size) for path in own_pictures()[:count]]
    return make_images(arrays, [size] * count, *look)


def join(
    name: str, runtime: Runtime, size: tuple[int, int], expected: Sequence[Found], found: Sequence[Found]
) -> Difference:
    """The differences of all pictures of a batch together."""
    each = [compare("", one, other) for one, other in zip(expected, found, strict=True)]
    logits = torch.cat([one.logits.flatten() for one in expected]).abs()
    return Difference(
        model=name,
        runtime=runtime,
        height=size[0],
        width=size[1],
        batch=len(each),
        instances=(sum(one.counts[0] for one in each), sum(one.counts[1] for one in each)),
        alone=sum(one.lost for one in each),
        box=max(one.box for one in each),
        score=max(one.score for one in each),
        cells=sum(one.cells for one in each),
        of=sum(one.of for one in each),
        close=max(one.close for one in each),
        typical=float(logits.mean()) if len(logits) else 0.0,
    )


if __name__ == "__main__":
    run_command(main)
