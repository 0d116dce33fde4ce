"""JSON of strangers: each odd file is read or is one line, in bounded time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from condinst.data.findings import RecordError
from condinst.data.formats.records import integer, load_json, numbers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "an object has the key 'a' twice"),
        (b'{"images": [{"id": 1, "id": 2}]}', "an object has the key 'id' twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"", "the file is empty"),
    ],
)
def test_bad_json_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    began = time.process_time()
    with pytest.raises(RecordError, match=words) as caught:
        load_json(file, "write it again")
    assert time.process_time() - began < 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_json_allows(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes('{"name": "Häuser"}'.encode(encoding))
    assert load_json(file, "") == {"name": "Häuser"}


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_numbers_that_are_not_finite(tmp_path: Path, number: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(f'{{"id": {number}}}')
    record = load_json(file, "")
    with pytest.raises(RecordError, match="whole number"):
        integer(record, "id")
    with pytest.raises(RecordError, match="finite numbers"):
        numbers([record["id"]], "points")
