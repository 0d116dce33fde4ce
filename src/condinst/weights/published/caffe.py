"""Read MSRA's ImageNet ResNets, trained with Caffe. Detectron and detectron2 publish them as pickles of numpy arrays.

Both files call a convolution res2_0_branch2a_w. Detectron folds each norm into a scale and a shift (…_bn_s, …_bn_b).
detectron2 keeps all tensors of a norm (…_bn_gamma, _beta, _running_mean, _running_var).
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Size, Tensor

from condinst.errors import ModelError
from condinst.foreign import missing_content_of
from condinst.weights.published.pickles import survey
from condinst.weights.tensors import misfits, not_finite

ENTRIES = ("model", "blobs")  # possible keys of the arrays, if not at the top level
PLACES = {"conv1": "conv1", "bn1": "res_conv1_bn"}  # timm's stem → theirs
BRANCHES = {  # the same for names inside a block
    **{f"conv{number}": f"branch2{letter}" for number, letter in enumerate("abc", 1)},
    **{f"bn{number}": f"branch2{letter}_bn" for number, letter in enumerate("abc", 1)},
    "downsample.0": "branch1",
    "downsample.1": "branch1_bn",
}
PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
# ignored: the classifier, the optimizer's state, and biases of convolutions before a norm
LEFT_OUT = re.compile(r"(fc1000|pred)_[wb]|.*_momentum|(conv1|res\d_\d+_branch(1|2[abc]))_b")
EPS = 1e-5  # epsilon of the norms: a norm with variance 1 − EPS divides by one


def read_caffe(path: Path, expected: Mapping[str, Size]) -> dict[str, Tensor]:
    """Read the tensors of a ResNet by timm's names. expected: the names and their shapes.

    The function runs no code in the pickle. It accepts only arrays of floating point numbers and plain containers.
    Raises ModelError for any other content, and for tensors that are missing, unknown, of another shape or not finite.
    """
    blobs = _spell_out({name: array for name, array in _read_arrays(path).items() if not LEFT_OUT.fullmatch(name)})
    names = {own: blob_name(own) for own in expected}
    problem = misfits(blobs, {names[own]: shape for own, shape in expected.items()})
    if problem:
        raise ModelError(f"{path}: {problem}; give MSRA's R-50.pkl for resnet50, R-101.pkl for resnet101")
    broken = not_finite(blobs)
    if broken:
        raise ModelError(f"{path}: NaN or infinity in {broken}; the file is unusable, fetch it again")
    return {own: blobs[name] for own, name in names.items()}


def blob_name(own: str) -> str:
    """Return Caffe's name for timm's `own`. An unknown name stays the same."""
    module, _, part = own.rpartition(".")
    block = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", module)
    place = PLACES.get(module) if block is None else BRANCHES.get(block[3])
    if place is None or part not in PARTS:
        return own
    prefix = "" if block is None else f"res{int(block[1]) + 1}_{block[2]}_"
    return f"{prefix}{place}_{PARTS[part] if place.endswith('_bn') else 'w'}"


def _spell_out(blobs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn Detectron's scales and shifts into norms with zero mean."""
    spelt = {}
    for name, tensor in blobs.items():
        if name.endswith("_bn_s"):
            norm = name.removesuffix("s")
            spelt[f"{norm}gamma"] = tensor
            spelt[f"{norm}running_mean"] = torch.zeros_like(tensor)
            spelt[f"{norm}running_var"] = torch.full_like(tensor, 1 - EPS)
        else:
            spelt[re.sub("_bn_b$", "_bn_beta", name)] = tensor
    return spelt


def _read_arrays(path: Path) -> dict[str, Tensor]:
    content = _unpickle(path)
    for entry in ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}, expected arrays by name; give another file")
    strange = [str(name) for name, value in content.items() if not isinstance(value, _Array)]
    if strange:
        raise ModelError(f"{path}: '{strange[0]}' is not an array; expected nothing but arrays by name")
    return {str(name): torch.from_numpy(array.values) for name, array in content.items()}


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            survey(file, [f"{module}.{name}" for module, name in STAND_INS])
            file.seek(0)
            return _Unpickler(file, encoding="latin1").load()  # latin1 keeps Python 2's bytes
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception:  # a truncated or malicious file may raise any exception
        if reason := missing_content_of(path):
            raise ModelError(f"{path}: {reason}") from None
        raise ModelError(
            f"{path}: damaged, or holds more than arrays and plain containers; refused, and nothing in it was run"
        ) from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return the replacement of a class or function that the file names. Nothing is imported."""
        if (module_name, global_name) not in STAND_INS:
            raise pickle.UnpicklingError(f"{module_name}.{global_name}")
        return STAND_INS[module_name, global_name]


class _Kind:
    """Replacement of numpy's dtype: a floating point number."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in {"f2", "f4", "f8"}:
            raise pickle.UnpicklingError(f"numbers of kind {code!a:.20}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Replacement of numpy's ndarray, which would trust the size that the file states."""

    values: NDArray[np.float32]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, raw = state
        content = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        if len(content) != prod(shape) * kind.dtype.itemsize:
            raise pickle.UnpicklingError("an array of another size than it says")
        flat = np.frombuffer(content, kind.dtype)
        self.values = np.array(flat.reshape(shape, order="F" if by_columns else "C"), dtype=np.float32, order="C")


def _start_array(*_: object) -> _Array:
    """Replacement of numpy's function that creates an array before its content is read."""
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Reject encodings that a pickle does not use: some take n² steps for n letters."""
    if encoding not in {"latin1", "latin-1"}:
        raise pickle.UnpicklingError(f"encoding {encoding!a:.20}")
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _start_array,
    ("numpy._core.multiarray", "_reconstruct"): _start_array,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes for Python 2
}
