"""Download a file to torch's cache. The download is checked and resumable."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from condinst.errors import ModelError, hide_secrets, one_line
from condinst.web import open_address, web_reason

OFFLINE = ("CONDINST_OFFLINE", "HF_HUB_OFFLINE")  # environment variables that forbid downloads
LARGEST = 2 * 2**30  # bytes; the largest published file has 240 million bytes
SILENCE_SECONDS = 30.0  # longest wait for the next byte from the server
ANSWER_SECONDS = 60.0  # until the body begins: connection, redirects and headers
BODY_SECONDS = 2 * 3600.0
CHUNK = 2**20
PARTIAL, RANGE_REFUSED = 206, 416
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


class DigestError(ModelError):
    """A fetched file is not the published one."""


def fetch_url(url: str, sha256: str = "", folder: Path | None = None, schemes: tuple[str, ...] = ("https",)) -> Path:
    """Return the path of the file at `url` in `folder`, by default torch's cache. Download the file if it is missing.

    sha256: the digest or its beginning. With a digest, the function checks the file before giving the file its final
    name, and continues an interrupted download. Other processes wait for the first download of a file. Raises
    ModelError, in one line, for every failure; a file with the final name then does not exist.
    """
    shown = hide_secrets(url)
    if urlsplit(url).scheme not in schemes:
        raise ModelError(f"{shown}: weights are fetched by https alone; download the file and give its path")
    target = (folder or torch_cache()) / Path(unquote(urlsplit(url).path)).name
    if target.is_file():
        return target
    if offline():
        raise ModelError(
            f"{shown}: not in {target.parent}, and {offline()} is set; unset it once to fetch it, or give a local file"
        )
    with _plain_errors(shown, target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.is_file():
                part = target.with_name(f"{target.name}.part")
                _download(url, part, resume=bool(sha256))
                verify(part, sha256, shown)
                os.replace(part, target)
    return target


def torch_cache() -> Path:
    """Return the folder of the weights that torch downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def offline() -> str:
    """Return the name of the variable that forbids downloads; empty if downloads are allowed."""
    yes = {"1", "true", "yes", "on"}
    return next((name for name in OFFLINE if os.environ.get(name, "").strip().lower() in yes), "")


def verify(path: Path, sha256: str, source: str) -> None:
    """Remove `path` and raise DigestError unless its digest begins with `sha256`."""
    found = digest(path) if sha256 else ""
    if not found.startswith(sha256):
        path.unlink()
        raise DigestError(
            f"{source}: checksum mismatch, expected SHA-256 {sha256[:16]}, got {found[:16]}; removed: fetch it again, "
            "or, if you trust the publisher's new file, download it and give its path as --model"
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, part: Path, resume: bool) -> None:
    """Download to `part`. With `resume`, continue an earlier download if possible.

    Raises OSError, HTTPException or ValueError.
    """
    if not resume:  # without a digest, a change of the file on the server stays unnoticed
        part.unlink(missing_ok=True)
    start = part.stat().st_size if part.is_file() else 0
    if not (start and _fetch(url, part, start)):
        _fetch(url, part, 0)


def _fetch(url: str, part: Path, start: int) -> bool:
    """Download to `part` from byte `start` on. Return False if the server does not continue from `start`."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    schemes = (urlsplit(url).scheme,)
    try:
        with open_address(url, ANSWER_SECONDS, schemes, headers, SILENCE_SECONDS, BODY_SECONDS) as response:
            if response.status != PARTIAL:  # a server may send the whole file instead
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                return False
            length = response.headers["Content-Length"]
            total = start + int(length) if length else None
            _limit(total or 0)
            with part.open("ab" if start else "wb") as file:
                _copy(response, file, start, total, part.stem)
    except HTTPError as error:
        if error.code == RANGE_REFUSED and start:  # `part` is at least as long as the file
            return False
        raise
    found = part.stat().st_size
    if total is not None and found != total:
        raise OSError(
            f"the connection broke off after {found} of {total} bytes; run the same command again to continue"
        )
    return True


def _copy(response: HTTPResponse, file: IO[bytes], start: int, total: int | None, name: str) -> None:
    """Yield the rest of the file. Show a progress bar on standard error if it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(one_line(name), total=total, completed=start)
        while chunk := response.read(CHUNK):
            _limit(file.tell() + len(chunk))
            file.write(chunk)
            progress.advance(task, len(chunk))


def _limit(size: int) -> None:
    if size > LARGEST:
        raise OSError(f"more than {LARGEST // 2**30} GiB, larger than any published file")


@contextmanager
def _plain_errors(url: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise ModelError(
                f"{folder}: cannot be written ({error.strerror}); free some space, or set TORCH_HOME to another folder"
            ) from None
        raise ModelError(
            f"{url}: cannot be fetched ({web_reason(error)}); if it stays so, get the file elsewhere and give its path"
        ) from None
