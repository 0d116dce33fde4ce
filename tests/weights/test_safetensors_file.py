"""A header that lies costs neither memory nor time, and ends in one line."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Size

from condinst.errors import ModelError
from condinst.weights.safetensors_file import LARGEST_HEADER, pack_safetensors, read_safetensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7], dtype=torch.int64)}


def accept(shapes: Mapping[str, Size]) -> None: ...


def write(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A valid file with a changed header."""
    save_file(TENSORS, path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    return path


def test_all_or_some_tensors_come_back(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    shapes: dict[str, Size] = {}
    found = read_safetensors(tmp_path / "x.safetensors", shapes.update)
    assert shapes == {"a": Size((2, 3)), "b": Size((1,))}
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert list(read_safetensors(tmp_path / "x.safetensors", accept, only=["b"])) == ["b"]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["a"].update(shape=[10**12]),
        lambda header: header["a"].update(data_offsets=[0, 2**60]),
        lambda header: header["a"].update(data_offsets=header["b"]["data_offsets"]),  # the tensors overlap
        lambda header: header["a"].update(data_offsets=[-4, 20]),
        lambda header: header["a"].update(dtype="F8_E4M3"),
        lambda header: header.pop("a"),  # numbers that belong to no tensor
        lambda header: header["a"].update(shape=[2**63, 0], data_offsets=[0, 0]),
        lambda header: header.update({"\x1b[31m\n": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(ModelError, match="damaged or not a safetensors file") as caught:
        read_safetensors(write(tmp_path / "x.safetensors", change), accept)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"\0" * 8, struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2**30) + b"{}"])
def test_a_header_size_that_lies_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not a safetensors file"):
        read_safetensors(tmp_path / "x.safetensors", accept)


@pytest.mark.parametrize("size", [LARGEST_HEADER + 1, 2**30])
def test_a_large_header_is_not_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", size) + b"{}")
        file.truncate(size + 100)  # sparse: takes no room on the disk
    with pytest.raises(ModelError, match=f"its header has {size:,} bytes"):
        read_safetensors(path, accept)


def test_tensors_that_do_not_fit_are_not_read(tmp_path: Path) -> None:
    size = 2**32  # bytes of the tensor; sparse on the disk
    header = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)

    def refuse(shapes: Mapping[str, Size]) -> None:
        raise ModelError(f"no room for {shapes['a']}")

    with pytest.raises(ModelError, match="no room for"):
        read_safetensors(tmp_path / "x.safetensors", refuse)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_or_a_folder_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(ModelError, match="no such file"):
            read_safetensors(path, accept)


def test_a_packed_file_is_an_ordinary_one(tmp_path: Path) -> None:
    """safetensors itself reads the same tensors, and they begin at a multiple of eight bytes."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack_safetensors(TENSORS))
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    data = TENSORS["b"].numpy().tobytes() + TENSORS["a"].numpy().tobytes()  # safetensors puts wide types first
    assert path.read_bytes().endswith(data)
    assert (path.stat().st_size - len(data)) % 8 == 0
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "sha256": hashlib.sha256(data).hexdigest()}


def test_every_flipped_bit_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    content = pack_safetensors(TENSORS)
    size = 2 * 3 * 4 + 8
    for bit in range(8 * size):
        damaged = bytearray(content)
        damaged[-1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged, its checksum has changed; fetch or train it again"):
            read_safetensors(path, accept)
