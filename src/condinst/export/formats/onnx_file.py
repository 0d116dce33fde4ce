"""A model as an ONNX program."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from condinst.config import Config
from condinst.errors import CondinstError, UsageError, first_line
from condinst.export.formats.program import Program
from condinst.export.names import INPUT, OUTPUTS, Notes, network_tensors
from condinst.inference.select import keep_boxes
from condinst.model.instance_network import InstanceNetwork
from condinst.structures import Controller

if TYPE_CHECKING:
    import onnx

EXTRA = "condinst[export]"
Size = tuple[int, int]
MOST_CELLS, MOST_IMAGES = 512, 1024  # of a side in multiples of the size divisor, and of a batch


class Named(nn.Module):
    """The program, and after its outputs the tensors between network and detection, in the order of their names."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.program.run_network(images)
        between = (*(level for field in output.head for level in field), output.mask_features)
        return (
            *self.program.after(output),
            *between,
            *(output.controller if isinstance(output.controller, Controller) else ()),
        )


def to_onnx(model: InstanceNetwork, config: Config, notes: Notes, fixed: Size | None = None) -> onnx.ModelProto:
    """The program of `model`: input (N, 3, H, W) float32, output `ProgramOutput`.

    N, H and W are free; H and W are multiples of `config.model.size_divisor`. notes: written into the program. fixed:
    (H, W) of a program for one size and one image. Raises UsageError for a missing package, a size that does not fit,
    and settings that cannot be exported, CondinstError if the exporter fails.
    """
    package = import_onnx()
    from condinst.export.formats.onnx_ops import OPSET, translations  # needs onnxscript

    keep = partial(keep_boxes, classes=len(config.model.classes))
    program = Program(model, config, keep).eval()
    images, shapes = example_input(config, fixed)
    try:
        with quiet(), torch.no_grad():
            recorded = torch.export.export(Named(program).eval(), (images,), dynamic_shapes=shapes, strict=False)
            made = torch.onnx.export(
                recorded,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[*OUTPUTS, *network_tensors(config.model)],
                custom_translation_table=translations(),
                verbose=False,
            )
    except (RuntimeError, torch.onnx.OnnxExporterError, torch._dynamo.exc.UserError) as error:
        raise CondinstError(f"the model cannot be exported to ONNX ({_reason(error):.200})") from error
    assert made is not None
    proto: onnx.ModelProto = made.model_proto
    between = proto.graph.output[len(OUTPUTS) :]
    del proto.graph.output[len(OUTPUTS) :]
    if fixed is None:
        _name_shapes(proto.graph)
    _remove_traces(proto.graph)
    proto.graph.value_info.extend(between)  # what a reader needs to cut the program there
    package.helper.set_model_props(proto, notes._asdict())
    return proto


def import_onnx() -> Any:
    """The package onnx. Raises UsageError if it, or another package that the export needs, is missing."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"export to ONNX needs the package {error.name}; install it: pip install '{EXTRA}'") from None
    return onnx


def example_input(config: Config, fixed: Size | None) -> tuple[Tensor, tuple[Any, ...] | None]:
    """A batch to record the program with, and the sides that the program leaves free. Raises UsageError."""
    divisor = config.model.size_divisor
    if fixed is None:
        height, width = (divisor * torch.export.Dim(side, min=1, max=MOST_CELLS) for side in ("rows", "columns"))
        batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
        # the exporter fixes a side whose coarsest map has one cell in the example, so each has at least two
        coarsest = config.model.geometry.strides[-1]
        example = (-(-side // divisor) * divisor for side in (2 * coarsest, 3 * coarsest))
        return torch.zeros(2, 3, *example), ({0: batch, 2: height, 3: width},)
    check_size(fixed, config)
    return torch.zeros(1, 3, *fixed), None


def check_size(fixed: Size, config: Config) -> None:
    """Raise UsageError for a size that the model does not take."""
    divisor = config.model.size_divisor
    if any(side % divisor or not divisor <= side <= MOST_CELLS * divisor for side in fixed):
        raise UsageError(
            f"--fixed {fixed[0]}x{fixed[1]}: both sides must be multiples of {divisor}, up to {MOST_CELLS * divisor}"
        )


def _name_shapes(graph: Any) -> None:
    """Give the free dimensions of inputs and outputs readable names. Raises CondinstError if the exporter fixed one."""
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        free = (0, 2, 3) if value.name in {INPUT, "mask_logits"} else (0,)
        if fixed := [dim for dim in free if not dims[dim].dim_param]:
            raise CondinstError(f"the exporter fixed dimension {fixed[0]} of {value.name}; please report this")
        dims[0].dim_param = "batch"
        if value.name == INPUT:
            dims[2].dim_param, dims[3].dim_param = "height", "width"
        elif value.name == "mask_logits":
            dims[2].dim_param, dims[3].dim_param = "height / 8", "width / 8"


def _reason(error: BaseException) -> str:
    """The first line of the error that caused all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _remove_traces(graph: Any) -> None:
    """Remove the exporter's notes on where the code lies on this machine."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the reports of exporters from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
