"""Files at paths and URIs. pyarrow reads and writes s3://, gs:// and hdfs://, fsspec other schemes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from fsspec.core import url_to_fs
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem
from pyarrow.parquet import ParquetFile

from condinst.errors import DataError, TooLargeError, first_line, hide_secrets, one_line
from condinst.web import PICTURE_BYTES, is_address

STORES = ("s3", "gs")  # a path begins with the bucket; an object is written completely or not at all
SECONDS = 60  # that Google Cloud Storage may take for an answer; pyarrow would wait for 15 minutes
FAULTS = (OSError, pa.ArrowException, ValueError, ImportError)  # of pyarrow, fsspec and its packages


class Place(NamedTuple):
    """A file or folder. system: what reads and writes it. path: its path there. name: its name in messages."""

    system: FileSystem
    path: str
    name: str


def is_uri(text: str) -> bool:
    """Return whether `text` is a URI, not a path."""
    return "://" in text


def locate(text: str) -> Place:
    """The place of a path or a URI. Raises DataError for a scheme that cannot be used."""
    name = hide_secrets(text)
    if not is_uri(text):
        return Place(LocalFileSystem(), os.path.abspath(text), name)
    scheme, _, rest = text.partition("://")
    host, _, path = rest.partition("/")
    try:
        if scheme in STORES:
            return Place(_system(scheme, host), f"{host}/{path}", name)
        if scheme == "hdfs":
            return Place(_system(scheme, host), f"/{path}", name)
        other, path = url_to_fs(text)
        return Place(PyFileSystem(FSSpecHandler(other)), path, name)
    except FAULTS as error:
        raise DataError(f"{name}: cannot be reached ({reason(error)})") from None


@lru_cache(maxsize=64)
def _system(scheme: str, host: str) -> FileSystem:
    """The file system of a bucket or a server. Opening one takes requests, so it is kept."""
    return FileSystem.from_uri(f"{scheme}://{host}" + f"?retry_limit_seconds={SECONDS}" * (scheme == "gs"))[0]


def reason(error: BaseException) -> str:
    """The reason for a fault, in one line."""
    return one_line(first_line(error)).rstrip(".")


def read_manifest(manifest: str, column: str) -> list[str]:
    """The pictures of a manifest, each once, in order. See `predict_manifest`.

    Raises DataError if the manifest cannot be read, lacks the column or holds no pictures.
    """
    place = locate(manifest)
    try:
        with place.system.open_input_file(place.path) as file:
            if manifest.endswith(".parquet"):
                table = ParquetFile(file)
                if column not in table.schema_arrow.names:
                    raise DataError(f"{place.name}: has no column '{column}'; name the column of the pictures")
                lines = table.read([column]).column(column).cast(pa.string()).drop_null().to_pylist()
            else:
                lines = file.read().decode().split("\n")
    except FAULTS as error:
        raise DataError(f"{place.name}: cannot be read as a list of pictures ({reason(error)})") from None
    pictures = list(dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()))
    if not pictures:
        raise DataError(f"{place.name}: holds no pictures")
    return pictures


def check_access(pictures: Iterable[str]) -> None:
    """Ask for one picture of each bucket or server. Raises DataError if the answer is not whether it exists."""
    some = {picture.split("/")[2]: picture for picture in pictures if is_uri(picture) and not is_address(picture)}
    for picture in some.values():
        place = locate(picture)
        try:
            place.system.get_file_info(place.path)
        except FAULTS as error:
            raise DataError(f"{place.name}: cannot be reached ({reason(error)}); check the credentials") from None


def openable(picture: str, folder: str) -> Path | str | Callable[[], io.BytesIO]:
    """What a predictor reads for a picture of a manifest. folder: of relative paths."""
    if not is_uri(picture):
        return Path(folder, picture)
    return picture if is_address(picture) else partial(fetch, picture)


def fetch(uri: str) -> io.BytesIO:
    """The bytes of a picture. Raises TooLargeError, before reading, over PICTURE_BYTES, DataError for other faults."""
    place = locate(uri)
    try:
        with place.system.open_input_file(place.path) as file:
            if file.size() > PICTURE_BYTES:
                raise TooLargeError(f"{place.name}: over {PICTURE_BYTES // 2**20} MiB")
            content = io.BytesIO(file.read())
    except FAULTS as error:
        raise DataError(f"{place.name}: cannot be fetched ({reason(error)})") from None
    content.name = place.name  # in messages
    return content
