"""Run the network part of an exported program with ONNX Runtime or OpenVINO, in place of PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError, UsageError, first_line
from condinst.export.names import INPUT, INT8_FILE, Notes, check_notes, network_tensors
from condinst.export.openvino_core import openvino_core
from condinst.inference.network import Network
from condinst.settings.model import ModelConfig
from condinst.structures import Controller, HeadOutput, NetworkOutput

Array = NDArray[Any]
Run = Callable[[Array], Sequence[Array]]


def open_network(path: Path, config: Config, narrow: bool = False) -> Network:
    """The network of a program, for a predictor. The program runs on the CPU with torch's number of threads.

    narrow: compute in 16 bit where the processor supports 16 bit; OpenVINO only. Raises UsageError for a missing
    package, ModelError for a file that cannot be read, of another version or of another model.
    """
    run = _openvino(path, config, narrow) if path.suffix == ".xml" else _onnx(path, config)

    def forward(images: Tensor) -> NetworkOutput:
        arrays = run(images.contiguous().numpy())
        return _as_output([torch.from_numpy(np.require(array, requirements="W")) for array in arrays], config.model)

    return Network(None, forward, torch.float32, config.model.size_divisor)


def run_whole(path: Path, images: Tensor) -> list[Array]:
    """The five outputs of a whole program, see `ProgramOutput`. images: (N, 3, H, W) float32, normalised."""
    feed = images.contiguous().numpy()
    if path.suffix == ".xml":
        compiled = openvino_core().compile_model(str(path), "CPU", _options(narrow=False))
        answer = compiled([feed], share_outputs=False)
        return [answer[port] for port in compiled.outputs]
    return list(_session(str(path)).run(None, {INPUT: feed}))


def _as_output(tensors: Sequence[Tensor], model: ModelConfig) -> NetworkOutput:
    """The output of a network from the tensors of `network_tensors`."""
    named = dict(zip(network_tensors(model), tensors, strict=True))
    head = (tuple(tensor for name, tensor in named.items() if name.startswith(field)) for field in HeadOutput._fields)
    weight, bias = named.get("controller_weight"), named.get("controller_bias")
    controller = None if weight is None or bias is None else Controller(weight, bias)
    return NetworkOutput(HeadOutput(*head), named["mask_features"], None, controller)


def _onnx(path: Path, config: Config) -> Run:
    import_onnxruntime(path)
    try:
        import onnx
    except ImportError:
        raise missing(path, "onnx", "export") from None
    try:
        proto = onnx.load(path)
        notes = {entry.key: entry.value for entry in proto.metadata_props}
        check_notes(_notes(notes), config, path)
        _refuse_fixed(path, [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim])
        names = network_tensors(config.model)
        # a graph cannot return its constants
        fixed = {
            part.name: onnx.numpy_helper.to_array(part).copy() for part in proto.graph.initializer if part.name in names
        }
        computed = [name for name in names if name not in fixed]
        part = onnx.utils.Extractor(proto).extract_model([INPUT], computed)
        session = _session(part.SerializeToString())
    except ModelError:
        raise
    except Exception as error:  # protobuf, onnx and onnxruntime have no common type of error
        raise _unreadable(path, error) from None

    def run(images: Array) -> list[Array]:
        found = fixed | dict(zip(computed, session.run(computed, {INPUT: images}), strict=True))
        return [found[name] for name in names]

    return run


def import_onnxruntime(path: Path) -> Any:
    """The package onnxruntime. Raises UsageError if it is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise missing(path, "onnxruntime", "export") from None
    return onnxruntime


def _session(program: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])


def _openvino(path: Path, config: Config, narrow: bool) -> Run:
    try:
        core = openvino_core()
    except ImportError:
        raise missing(path, "openvino", "openvino") from None
    try:
        program = core.read_model(path)
        notes = {name: str(program.get_rt_info([name]).value) for name in Notes._fields if program.has_rt_info([name])}
        check_notes(_notes(notes), config, path)
        shape = program.inputs[0].partial_shape
        _refuse_fixed(path, [0 if dim.is_dynamic else dim.get_length() for dim in shape])
        narrow = (narrow or path.name == INT8_FILE) and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        compiled = core.compile_model(network_part(program, config.model), "CPU", _options(narrow))
    except ModelError:
        raise
    except Exception as error:  # openvino raises RuntimeError and OpenVINO's own types
        raise _unreadable(path, error) from None
    ports = [compiled.output(name) for name in network_tensors(config.model)]
    own = threading.local()  # a request serves one thread

    def run(images: Array) -> list[Array]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        answer = own.request.infer([images], share_inputs=True, share_outputs=False)
        return [answer[port] for port in ports]

    return run


def network_part(program: Any, model: ModelConfig) -> Any:
    """The part of an OpenVINO program up to the tensors of `network_tensors`."""
    import openvino as ov

    ports = {name: port for node in program.get_ops() for port in node.outputs() for name in port.get_names()}
    names = network_tensors(model)
    lacking = [name for name in names if name not in ports]
    if lacking:
        raise ModelError(f"the program lacks the tensor {lacking[0]}; export the model again")
    return ov.Model([ports[name] for name in names], program.get_parameters())


def _options(narrow: bool) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }


def _notes(found: Mapping[str, str]) -> Notes:
    return Notes(*(found.get(name, "") for name in Notes._fields))


def _refuse_fixed(path: Path, dims: Sequence[int]) -> None:
    height, width = dims[2:]
    if height or width:
        raise ModelError(
            f"{path}: made for pictures of {width}×{height} pixels only, and a predictor takes any size; export the "
            "model without --fixed"
        )


def missing(path: Path, package: str, extra: str) -> UsageError:
    """The error for a program whose runtime is not installed."""
    return UsageError(f"{path}: needs the package {package}; install it: pip install 'condinst[{extra}]'")


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a readable program ({first_line(error):.150}); export the model again")
