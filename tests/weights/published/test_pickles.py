"""Weights that state more than they hold: each ends in one line, in little time and memory."""

import io
import pickle
import tarfile
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from condinst.errors import ModelError
from condinst.weights.published.pickles import DEEPEST, MOST_STEPS
from condinst.weights.published.pth import unpickle

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
FLOATS = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def whole(number: int) -> bytes:
    return b"\x8a\x08" + number.to_bytes(8, "little", signed=True)


def tensor(numbers: int, shape: int, stride: int, offset: int = 0) -> bytes:
    """The opcodes of a tensor of one dimension, whose storage states so many numbers."""
    storage = b"(" + FLOATS + whole(numbers) + b"tQ"
    view = whole(offset) + whole(shape) + b"\x85" + whole(stride) + b"\x85"
    return TENSOR + b"(" + storage + view + b"\x89ccollections\nOrderedDict\n)RtR"


def write(path: Path, pickled: bytes, packing: int = zipfile.ZIP_STORED) -> Path:
    """A zip file as torch writes it, with one storage of 10 numbers."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(40))
        archive.writestr("archive/version", "3\n")
    return path


def refusal(path: Path) -> str:
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        unpickle(path)
    assert time.process_time() - start < 20
    assert str(caught.value).isprintable()
    assert "nothing in it was run" in str(caught.value)
    return str(caught.value)


def test_a_forged_file_with_nothing_wrong_is_read(tmp_path: Path) -> None:
    """So that what the others are refused for is what they are meant to be refused for."""
    path = write(tmp_path / "a.pth", b"}X\x01\x00\x00\x00w" + tensor(10, 3, 2, 4) + b"s")
    assert unpickle(path)["w"].tolist() == [0, 0, 0]


SHARED = b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60))  # a pair of twice the pair before, 60 times
BAD = {
    "nested tuples as a key": (b"}" + SHARED + b"K\x01s", "tuples in tuples"),
    "nested tuples as a storage": (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + SHARED + b"NK\x01tQ",
        "tuples in tuples",
    ),
    "deep tuples": (b"}" + b")" + b"\x85" * (DEEPEST + 1) + b"K\x01s", "tuples in tuples"),
    "a call": (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R", "it names os.system"),
    "a tensor's class": (b"ctorch\nFloatTensor\n" + whole(10**11) + b"\x85R", "it names torch.FloatTensor"),
    "a storage's class": (b"ctorch\nFloatStorage\n" + whole(10**11) + b"\x85R", "it calls torch.FloatStorage"),
    "bytes of a stated size": (b"c__builtin__\nbytearray\n" + whole(10**12) + b"\x85R", "a bytearray of a stated size"),
    "a slow encoding": (
        b"c_codecs\nencode\nX\x01\x00\x00\x00xX\x08\x00\x00\x00punycode\x86R",
        "bytes in a strange encoding",
    ),
    "a storage larger than its entry": (tensor(11, 3, 1), "larger tensors than it holds"),
    "a storage of terabytes": (tensor(10**12, 3, 1), "larger tensors than it holds"),
    "a tensor beyond its storage": (tensor(10, 11, 1), "reaches beyond its numbers"),
    "a tensor that resizes its storage": (tensor(10, 10**12, 1), "reaches beyond its numbers"),
    "an offset beyond": (tensor(10, 1, 1, 10), "reaches beyond its numbers"),
    "a tensor that repeats one number": (tensor(10, 10**12, 0), "far larger than what is stored"),
    "a negative size": (tensor(10, -1, 1), "a tensor without numbers"),
    "a sparse tensor": (b"ctorch._utils\n_rebuild_sparse_tensor\n", "it names torch._utils._rebuild_sparse_tensor"),
    "a memo of gigabytes": (b"Nr\xff\xff\xff\x7f", "a memo of absurd size"),
    "steps": (b"N0" * (MOST_STEPS // 2 + 10), "more than 1,000,000 steps"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    pickled, words = BAD[name]
    path = write(tmp_path / "a.pth", pickled)
    with pytest.raises(ModelError, match=words):
        unpickle(path)
    refusal(path)


def test_zip_files_that_lie(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", b"}", zipfile.ZIP_DEFLATED)
    assert "compressed entries" in refusal(path)
    write(path, b"}")
    content = path.read_bytes()
    place = content.rindex(b"archive/data/0") - 22  # of the size in the directory
    path.write_bytes(content[: place - 4] + (10**9).to_bytes(4, "little") * 2 + content[place + 4 :])
    assert "more bytes than it has" in refusal(path)


def test_files_of_old_torch(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"w": torch.ones(77)}, path, _use_new_zipfile_serialization=False)
    assert unpickle(path)["w"].tolist() == [1] * 77
    content = path.read_bytes()
    path.write_bytes(content.replace(b"K\x4d", b"J\xff\xff\xff\x7f"))
    assert "larger tensors than it holds" in refusal(path)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    assert "a tar file" in refusal(path)
    path.write_bytes(pickle.dumps({"w": 1}))
    refusal(path)


def test_everything_that_checkpoints_hold_is_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    content: dict[str, Any] = {
        "tensors": [torch.ones(2, 3).t(), torch.ones(10)[3:7], torch.zeros(0, 4), torch.tensor(3), parameter],
        "expanded": torch.zeros(()).expand(30, 40),
        "kinds": [torch.zeros(2, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.int64, torch.bool)],
        "plain": (1, 2.5, None, True, "word", b"bytes", {1, 2}, {3: "x"}, OrderedDict(a=1), 2**40),
        "of torch": [torch.Size([1, 2]), torch.device("cpu"), torch.float32, torch.get_rng_state()],
        "optimizer": optimizer.state_dict(),
    }
    for old in (False, True):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
        read = unpickle(tmp_path / "a.pth")
        assert read["plain"] == content["plain"]
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(read["tensors"], content["tensors"], strict=True))
