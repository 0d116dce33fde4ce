"""Read and write a safetensors file. Its header is checked before any tensor is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Size, Tensor

from condinst.errors import ModelError, first_line, one_line
from condinst.foreign import missing_content_of

LARGEST_HEADER = 4 * 2**20  # bytes; the header of a model with a thousand tensors has a tenth of a megabyte
FETCH = "fetch or train it again"
LENGTH = 8  # bytes before the header, which hold its length
METADATA, DIGEST = "__metadata__", "sha256"  # the digest of the bytes behind the header


def pack_safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Return the content of a file with these tensors. Its metadata holds the SHA-256 of their bytes."""
    content = memoryview(save(tensors))
    begin = LENGTH + int.from_bytes(content[:LENGTH], "little")
    header = json.loads(bytes(content[LENGTH:begin]))
    described = {METADATA: {"format": "pt", DIGEST: hashlib.sha256(content[begin:]).hexdigest()}} | header
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)  # the tensors begin at a multiple of eight
    return b"".join((len(text).to_bytes(LENGTH, "little"), text, content[begin:]))


def read_safetensors(
    path: Path, check: Callable[[Mapping[str, Size]], None], only: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the tensors of the file by name.

    check: takes the shapes in the header and raises ModelError if they do not fit. So a stranger's file with other
    tensors costs no memory. only: names to read; by default all.

    Raises ModelError for a file that is missing, damaged, or has a header of more than LARGEST_HEADER bytes. A file
    that `pack_safetensors` made is also damaged if the bytes of its tensors have changed.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with path.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if LARGEST_HEADER < header < path.stat().st_size:
            message = f"its header has {header:,} bytes, more than the {LARGEST_HEADER:,} that are read"
            raise ModelError(f"{path}: {message}; {FETCH}")
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if only is None or name in only]  # noqa: SIM118 (file is no mapping)
            check({name: Size(file.get_slice(name).get_shape()) for name in names})
            _verify(path, LENGTH + header, (file.metadata() or {}).get(DIGEST))
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OverflowError, RuntimeError) as error:
        if reason := missing_content_of(path):
            raise ModelError(f"{path}: {reason}") from None
        raise ModelError(
            f"{path}: damaged or not a safetensors file ({one_line(first_line(error)):.200}); {FETCH}"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None


def _verify(path: Path, begin: int, expected: str | None) -> None:
    """Raise ModelError if the bytes from `begin` on have another SHA-256. Other programs write no digest."""
    if expected is None:
        return
    with path.open("rb") as stream:
        stream.seek(begin)
        if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
            raise ModelError(f"{path}: damaged, its checksum has changed; {FETCH}")
