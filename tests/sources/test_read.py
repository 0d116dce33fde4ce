"""Single sources: files, addresses, open files; what is wrong with each in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.errors import DataError, UsageError
from condinst.sources.expand import expand, is_single
from condinst.sources.read import read_source

RGB = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def png() -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(RGB).save(encoded, "PNG")
    return encoded.getvalue()


class Like:
    """Something with the path of a file, as temporary files and other libraries have."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    for source in (path, str(path), Like(path)):
        picture = read_source(source)
        assert np.array_equal(picture.array, RGB)
        assert (picture.path, picture.name) == (path, str(path))
    with path.open("rb") as file:
        file.read(5)
        assert read_source(file)[1:3] == (None, str(path))
        assert np.array_equal(read_source(file).array, RGB)  # from the beginning each time


def test_a_buffer_that_was_just_written() -> None:
    """Its position is at the end."""
    encoded = io.BytesIO()
    Image.fromarray(RGB).save(encoded, "PNG")
    assert np.array_equal(read_source(encoded).array, RGB)
    for content in (png(), bytearray(png()), memoryview(png())):
        assert np.array_equal(read_source(content).array, RGB)


def test_addresses(web: Any) -> None:
    web.files["/some/a.png"] = png()
    picture = read_source(f"{web.address}/some/a.png")
    assert np.array_equal(picture.array, RGB)
    assert (picture.path, picture.name) == (None, f"{web.address}/some/a.png")
    secret = web.address.replace("http://", "http://me:hunter2@")
    with pytest.raises(DataError, match=r"missing\.png: cannot be fetched \(HTTP 404") as told:
        read_source(f"{secret}/missing.png")
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nuclei", DataError, "nuclei: no such file or folder; if it is a model, give a picture and model='nuclei'"),
        ("no/such/a.png", DataError, "no/such/a.png: no such file or folder"),
        ("s3://bucket/a.png", DataError, "s3://bucket/a.png: condinst fetches http and https addresses only"),
        ("a\0b.png", DataError, "a.*b.png: no such file"),
        ("", DataError, "picture: the path is empty"),
        (b"", DataError, "the file is empty"),
        (b"words", DataError, "image bytes: not an image"),
        (io.BytesIO(), DataError, "open file: the file is empty"),
        (io.StringIO("words"), UsageError, "open file: is open as text; open it with mode 'rb'"),
        (io.TextIOWrapper(io.BytesIO(b"\x89PNG")), UsageError, "is open as text; open it with mode 'rb'"),
        (Path("http://host/a.png"), DataError, "http:/host/a.png: no such file; a Path loses a slash of an address"),
        (None, UsageError, "picture: expected a path, folder, pattern, .* got NoneType"),
        (3.5, UsageError, "got float"),
        (["a.png"], UsageError, "got list"),
        (lambda: None, UsageError, "got NoneType"),
    ],
)
def test_one_line_for_what_is_no_picture(source: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as told:
        read_source(source)
    assert len(str(told.value).splitlines()) == 1


def test_a_function_that_fails() -> None:
    def fetch() -> bytes:
        raise KeyError("no such frame")

    with pytest.raises(DataError, match=r"source function: cannot be used \('no such frame'\)"):
        read_source(fetch)


def test_a_file_that_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "frame[1].png"
    path.write_bytes(png())
    assert is_single(path)
    assert list(expand(str(path))) == [str(path)]
    assert not is_single(tmp_path / "frame[0-9].png")


def test_lists_stay_lazy() -> None:
    def endless() -> Any:
        while True:
            yield RGB

    sources = expand(endless())
    assert all(next(sources) is RGB for _ in range(3))


def test_a_text_file_with_a_source_on_each_line(tmp_path: Path) -> None:
    folder, listed = tmp_path / "some", tmp_path / "list.txt"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "@b.png").write_bytes(png())
    listed.write_text(f"{folder}/a.png\n\n{folder}\nhttps://example.org/c.png\n@{listed}\n")
    assert not is_single(f"@{listed}")
    expected = [f"{folder}/a.png", folder / "@b.png", folder / "a.png", "https://example.org/c.png", f"@{listed}"]
    assert list(expand(f"@{listed}")) == expected
    assert list(expand([f"@{listed}", "d.png"])) == [*expected, "d.png"]
    with pytest.raises(DataError, match=r"nowhere\.txt: cannot be read as a list of pictures \(No such file"):
        list(expand("@nowhere.txt"))


def test_a_picture_whose_name_begins_with_an_at_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("@b.png").write_bytes(png())
    assert is_single("@b.png")
    assert np.array_equal(read_source("@b.png").array, RGB)
