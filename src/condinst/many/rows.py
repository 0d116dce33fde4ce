"""The formats of a shard: lines of JSON, or Parquet with the same rows.

A record has the keys of `SCHEMA`. In Parquet, a key that a record lacks is null: `page` of a file with one page,
`left_out` of a picture with a result, `width`, `height` and `annotations` of a picture that was left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from condinst.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

JSONL, PARQUET = "jsonl", "parquet"
ROWS = 100  # pictures of a row group; as many records are in memory
Write = Callable[[Mapping[str, Any]], None]  # writes one record


def check_format(name: str) -> None:
    """Raise UsageError for Parquet without the package pyarrow."""
    if name == PARQUET and find_spec("pyarrow") is None:
        raise UsageError("Parquet needs the package pyarrow; install it: pip install 'condinst[parquet]'")


def writer(name: str, file: IO[bytes]) -> AbstractContextManager[Write]:
    """Write records into an open file in the format `name`. The file is complete when the context has ended."""
    return _parquet(file) if name == PARQUET else _lines(file)


def schema() -> pyarrow.Schema:
    """The columns of a Parquet file. bbox: x, y, width and height in pixels. size: height and width."""
    import pyarrow as pa

    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    instance = [
        ("category_id", pa.int32()),
        ("bbox", pa.list_(pa.float64())),
        ("score", pa.float64()),
        ("segmentation", mask),
        ("area", pa.int64()),
    ]
    return pa.schema(
        [
            ("source", pa.string()),
            ("page", pa.int32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("annotations", pa.list_(pa.struct(instance))),
            ("left_out", pa.string()),
        ]
    )


@contextmanager
def _lines(file: IO[bytes]) -> Iterator[Write]:
    def write(record: Mapping[str, Any]) -> None:
        file.write(json.dumps(record, allow_nan=False).encode() + b"\n")

    yield write


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    columns, waiting = schema(), list[Mapping[str, Any]]()

    def flush() -> None:
        table.write_table(pa.Table.from_pylist(waiting, columns))
        waiting.clear()

    def write(record: Mapping[str, Any]) -> None:
        waiting.append(record)
        if len(waiting) == ROWS:
            flush()

    with ParquetWriter(file, columns, compression="zstd") as table:
        yield write
        if waiting:
            flush()
