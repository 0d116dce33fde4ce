"""A model as a PyTorch program (.pt2) for one size of picture. It runs without condinst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condinst.config import Config
from condinst.errors import CondinstError, UsageError, first_line
from condinst.export.formats.onnx_file import Size, example_input, quiet
from condinst.export.formats.program import Program
from condinst.export.names import Notes
from condinst.inference.select import keep_boxes_by_products
from condinst.model.instance_network import InstanceNetwork


class Plain(nn.Module):
    """The program with a plain tuple as its output, which loads without condinst."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.program(images))


def to_torch(model: InstanceNetwork, config: Config, fixed: Size | None) -> torch.export.ExportedProgram:
    """The program of `model` as recorded by torch.export, for one picture of the size `fixed`, (H, W).

    Raises UsageError without a size, CondinstError if the exporter fails.
    """
    if fixed is None:
        raise UsageError("this format needs the size of the pictures; add --fixed HEIGHTxWIDTH, for example 640x640")
    program = Plain(Program(model, config, keep_boxes_by_products)).eval()
    images, _ = example_input(config, fixed)
    try:
        with quiet(), torch.no_grad():
            made = torch.export.export(program, (images,), strict=False)
    except (RuntimeError, torch._dynamo.exc.UserError) as error:
        raise CondinstError(f"the model cannot be exported ({first_line(error):.200})") from error
    for node in made.graph.nodes:
        node.meta.pop("stack_trace", None)  # says where the code lies on this machine
    return made


def save_torch(program: torch.export.ExportedProgram, notes: Notes, path: Path) -> None:
    """Write the program and its notes."""
    with quiet():
        torch.export.save(program, path, extra_files=notes._asdict())


def run_torch(path: Path, images: Tensor) -> list[Any]:
    """The five outputs of the program in the file."""
    with quiet(), torch.no_grad():
        return list(torch.export.load(path).module()(images))


def save_executorch(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write the program for ExecuTorch with the XNNPACK backend. Raises UsageError for a missing package."""
    import_executorch()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        with quiet():
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            path.write_bytes(edge.to_executorch().buffer)
    except (RuntimeError, AssertionError) as error:
        raise CondinstError(f"the model cannot be exported to ExecuTorch ({first_line(error):.200})") from error


def import_executorch() -> None:
    """Import the parts of the package executorch. Raises UsageError if it, or a package that it needs, is missing."""
    try:
        import executorch.backends.xnnpack.partition.xnnpack_partitioner
        import executorch.exir
        import executorch.runtime  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"export to ExecuTorch needs the package {(error.name or 'executorch').partition('.')[0]}; install it: "
            "pip install executorch"
        ) from None


def run_executorch(path: Path, images: Tensor) -> list[Any]:
    """The five outputs of the program in the file, computed by ExecuTorch's own runtime."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return list(method.execute([images.contiguous()]))
