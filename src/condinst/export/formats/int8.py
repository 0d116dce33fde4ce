"""The network in 8 bit by NNCF, for OpenVINO. The detection and the masks stay outside, in float32.

A whole program in 8 bit loses its masks: the coordinates of the dynamic mask head do not fit 8 bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.errors import CondinstError, UsageError, first_line
from condinst.export.compare import prepare
from condinst.export.formats.onnx_file import quiet
from condinst.export.formats.openvino_file import EXTRA, with_notes
from condinst.export.names import Notes
from condinst.export.runtime import network_part
from condinst.sources.expand import Source
from condinst.sources.read import read_source

# For the ranges of the values. The nuclei model loses 0.5 points of mask AP with 128 pictures, and 0.1 with 300.
MOST_PICTURES = 300
# operations between the last convolutions and the outputs
BETWEEN = {"Add", "Relu", "Multiply", "Convert", "Slice", "StridedSlice", "Split", "VariadicSplit"}


def to_int8(program: Any, config: Config, notes: Notes, pictures: Sequence[Source]) -> Any:
    """The network part of an OpenVINO program in 8 bit. The pictures give the ranges of the values.

    Depthwise convolutions and the last convolutions stay in float: they take little time, and rounding in them costs
    accuracy. Raises UsageError for a missing package, CondinstError if NNCF fails.
    """
    nncf = import_nncf()
    part = network_part(program, config.model)
    try:
        with quiet():
            narrow = nncf.quantize(
                part,
                nncf.Dataset(list(pictures), lambda picture: _images(picture, config)),
                subset_size=len(pictures),
                ignored_scope=nncf.IgnoredScope(
                    names=last_convolutions(part), types=["GroupConvolution"], validate=False
                ),
            )
    except (RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError) as error:
        raise CondinstError(f"the network cannot be converted to 8 bit ({first_line(error):.200})") from error
    return with_notes(narrow, notes)


def import_nncf() -> Any:
    """The package nncf. Raises UsageError if it is missing."""
    os.environ.setdefault("NNCF_CI", "1")  # otherwise NNCF reports its use over the network
    try:
        import nncf
    except ImportError:
        raise UsageError(f"--int8 needs the package nncf; install it: pip install '{EXTRA}'") from None
    return nncf


def spread(data: AnnotatedData) -> list[Path]:
    """The paths of at most MOST_PICTURES pictures, evenly spread over the data."""
    paths = [sample.path for sample in data.samples]
    if len(paths) <= MOST_PICTURES:
        return paths
    return [paths[index * len(paths) // MOST_PICTURES] for index in range(MOST_PICTURES)]


def last_convolutions(part: Any) -> list[str]:
    """The names of the convolutions whose results leave the network, apart from bias, scale and ReLU."""
    names = []
    for result in part.get_results():
        node = result.input_value(0).get_node()
        while node.get_type_name() in BETWEEN:
            node = max((value.get_node() for value in node.input_values()), key=_is_computed)
        if node.get_type_name() == "Convolution":
            names.append(node.get_friendly_name())
    return sorted(set(names))


def _is_computed(node: Any) -> bool:
    return bool(node.get_type_name() != "Constant")


def _images(picture: Source, config: Config) -> NDArray[np.float32]:
    array: NDArray[np.float32] = prepare([read_source(picture, range=config.input.range)], config).tensor.numpy()
    return array
