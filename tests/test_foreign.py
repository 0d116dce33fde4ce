"""condinst names a Git LFS pointer, a web page and an empty file, wherever it reads a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.errors import CondinstError
from condinst.foreign import missing_content
from condinst.settings.reading import read_settings
from condinst.weights.published.caffe import read_caffe
from condinst.weights.published.pth import unpickle
from condinst.weights.safetensors_file import read_safetensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
PAGE = b"\xef\xbb\xbf\n  <!DOCTYPE HTML>\n<html><title>404</title></html>"
READERS: dict[str, Callable[[Path], object]] = {
    "a.pth": unpickle,
    "a.pkl": lambda path: read_caffe(path, {}),
    "a.safetensors": lambda path: read_safetensors(path, lambda shapes: None),
    "a.json": lambda path: read_coco(path, path.parent),
    "a.png": read_image,
    "a.yaml": read_settings,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (POINTER, "Git LFS pointer, not the file; run 'git lfs pull'"),
        (PAGE, "web page, not the file; download the file"),
    ],
    ids=["pointer", "page"],
)
def test_every_reader_names_what_it_found(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CondinstError) as caught:
        READERS[name](path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in READERS if name != "a.yaml"])
def test_every_reader_names_an_empty_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    with pytest.raises(CondinstError, match="the file is empty"):
        READERS[name](path)


def test_a_settings_file_without_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# nothing\n")
    with pytest.raises(CondinstError, match="is empty, not settings"):
        read_settings(path)
    path.write_text("- train\n")
    with pytest.raises(CondinstError, match="holds a list, not settings"):
        read_settings(path)


@pytest.mark.parametrize("start", [b"version 1", b"<svg>", b"html", b"{}", b"\0", b"\x80\x02"])
def test_other_content_is_not_named(start: bytes) -> None:
    assert missing_content(start) == ""
