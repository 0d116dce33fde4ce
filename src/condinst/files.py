"""Write files completely or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Mapping
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, completely or not at all.

    The function writes a temporary file in the same folder and renames it. It makes missing folders. If writing fails,
    it raises OSError, removes the temporary file and leaves an existing file at `path` unchanged.
    """
    replace_files({path: content})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write several files as `replace_file` does: first write all of them, then rename them in the given order."""
    temporaries = {path: path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part") for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
            temporaries[path].write_bytes(content)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
