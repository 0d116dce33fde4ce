"""Export the model of every shipped recipe, with random weights, and run the program in ONNX Runtime and OpenVINO.

    python -m benchmarks.export.recipes

Recipes that differ in the training alone share a program. An error of the export or of a runtime counts as a result,
too. Writes benchmarks/results/export-recipes.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.export.parity import Difference, Runtime, batch_of, compare_all, versions
from benchmarks.facts import RESULTS, Facts, run_command
from benchmarks.speed.models.busy_rtmdet import settled_rtmdet
from condinst.config import Config
from condinst.errors import CondinstError
from condinst.export.formats.program import EXPORTED
from condinst.files import replace_file
from condinst.methods.choose import build_network
from condinst.model.instance_network import InstanceNetwork
from condinst.recipes import load_recipe, recipe_names

COMMAND = "python -m benchmarks.export.recipes"
SIZE, IMAGES = (64, 96), 2
CANDIDATES = 150  # of RTMDet-Ins, in all pictures
# scores and boxes that give instances without training
BUSY = ["model.classes=[a,b,c]", "model.head.prior=0.4", "model.head.distance_prior=4", "detect.max_detections=50"]


class Row(Facts):
    """What became of the program of these recipes.

    error: in the export or a runtime; empty if there was none. refused: formats that `condinst export` refuses.
    """

    recipes: tuple[str, ...]
    error: str = ""
    refused: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


class Report(Facts):
    """The whole of the JSON file."""

    command: str
    versions: dict[str, str]
    rows: tuple[Row, ...]


def main(out: Annotated[Path, typer.Option(help="The file to write.")] = RESULTS / "export-recipes.json") -> None:
    """Export every recipe."""
    groups: dict[str, list[str]] = {}
    for name in exported_names():
        config = program_config(name)
        groups.setdefault(config.model.model_dump_json() + config.detect.model_dump_json(), []).append(name)
    rows = []
    for names in groups.values():
        rows.append(try_export(tuple(names)))
        print(rows[-1], flush=True)
    report = Report(command=COMMAND, versions=versions(), rows=tuple(rows))
    replace_file(out, report.model_dump_json(indent=1).encode() + b"\n")


def exported_names() -> list[str]:
    """The recipes of the methods that can be exported."""
    return [name for name in recipe_names() if load_recipe(name).model.method in EXPORTED]


def program_config(recipe: str) -> Config:
    """The settings of a recipe with few classes and many detections."""
    return load_recipe(recipe).with_overrides([*BUSY, "detect.nms=box"])


def try_export(recipes: tuple[str, ...]) -> Row:
    """Export the program of these recipes and compare it with the model."""
    config = program_config(recipes[0])
    model = make_model(config)
    runtimes: tuple[Runtime, ...] = ("ONNX Runtime", "OpenVINO")
    refused: tuple[str, ...] = ()
    if config.model.backbone.deformable_interval:
        runtimes, refused = ("ONNX Runtime",), ("openvino",)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = tuple(compare_all(recipes[0], model, config, Path(folder), runtimes, [SIZE], [IMAGES]))
    except CondinstError as error:
        return Row(recipes=recipes, error=str(error), refused=refused)
    return Row(recipes=recipes, differences=found, refused=refused)


def make_model(config: Config) -> InstanceNetwork:
    """The model with random weights. Those of RTMDet-Ins are fitted to the pictures, or all scores would be alike."""
    if config.model.method == "rtmdet-ins":
        return settled_rtmdet(config, batch_of(config, SIZE, IMAGES).tensor, CANDIDATES)
    torch.manual_seed(0)
    return build_network(config.model).eval()


if __name__ == "__main__":
    run_command(main)
