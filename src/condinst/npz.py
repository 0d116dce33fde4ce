"""Read NumPy's .npz files from unknown places: no code runs, and no more memory is taken than the caller allows."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from condinst.errors import ModelError, first_line, one_line
from condinst.foreign import missing_content_of


def read_arrays(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name, in the order of the file. most: largest total size in bytes.

    Raises ModelError, in one line, for a file that cannot be read, states more data than it has, or holds anything
    other than arrays of numbers.
    """
    try:
        with ZipFile(path) as archive:
            # numpy allocates the size that the header states, and compressed data may expand greatly
            if sum(entry.file_size for entry in archive.infolist()) > most:
                raise ValueError(f"it unpacks to more than {most} bytes")
            for entry in archive.infolist():
                _check_array(archive, entry)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy and zipfile raise many kinds of exceptions for a damaged file
        reason = missing_content_of(path) or one_line(first_line(error))
        raise ModelError(f"{path}: not readable as arrays ({reason:.150}); give another file") from error


def _check_array(archive: ZipFile, entry: ZipInfo) -> None:
    """Raise ValueError unless an entry is an array of numbers with the size that its header states."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in "fiub" or prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
            raise ValueError(f"{entry.filename} holds no numbers, or not as many as it says")
