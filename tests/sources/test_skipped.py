"""What `predict FOLDER` leaves out is told with its count; files of the system are not spoken of."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from condinst.data.pictures.image import list_images, read_picture
from condinst.data.pictures.pages import parse_pages
from condinst.errors import DataError, PictureWarning, UsageError
from condinst.sources.expand import expand
from condinst.sources.places import Source, expand_sources
from condinst.sources.skipped import skipped


def test_other_files_sub_folders_and_links_are_counted(tmp_path: Path) -> None:
    for name in (
        "a.png",
        "b.txt",
        "c.TXT",
        "film.mov",
        "more/d.png",
        "more/e.txt",
        "._a.png",
        "Thumbs.db",
        "@eaDir/a.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "more" / "loop").symlink_to(tmp_path)
    assert list(skipped([str(tmp_path), "http://x/y.png", "-", str(tmp_path / "a.png")])) == [
        f"{tmp_path}: left out 3 files that are not pictures (2 .txt, 1 .mov)",
        f"{tmp_path}: left out 1 pictures in sub-folders (more); --recursive or the pattern '{tmp_path}/**/*' "
        "includes them",
        f"{tmp_path}: left out 1 broken links (gone)",
    ]
    assert list_images([str(tmp_path)]) == [tmp_path / "a.png"]
    assert list(skipped([str(tmp_path)], recursive=True)) == [
        f"{tmp_path}: left out 4 files that are not pictures (3 .txt, 1 .mov)",
        f"{tmp_path}: left out 1 broken links (gone)",
    ]
    assert list_images([str(tmp_path)], recursive=True) == [tmp_path / "a.png", tmp_path / "more" / "d.png"]
    assert list_images([f"{tmp_path}/**/*"]) == [tmp_path / "a.png", tmp_path / "more" / "d.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_devices_are_counted_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    assert list(skipped([str(tmp_path)])) == [f"{tmp_path}: left out 2 pipes, sockets or devices (b.png, c.png)"]
    with pytest.raises(DataError, match=r"b.png: a pipe, a socket or a device"):
        list_images([str(tmp_path / "b.png")])


def test_a_folder_in_python_warns_of_what_is_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.txt", "more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(PictureWarning) as told:
        assert list(expand(tmp_path)) == [tmp_path / "a.png"]
    assert [str(warning.message).removeprefix(f"{tmp_path}: ").split(" (")[0] for warning in told] == [
        "left out 1 files that are not pictures", "left out 1 pictures in sub-folders",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["-", "https://user:hunter2@host/stack.tif"])
def test_pages_of_an_address_or_of_standard_input_are_refused(place: str) -> None:
    with pytest.raises(UsageError, match="the first page of") as error:
        expand_sources([place], parse_pages("2"))
    assert "hunter2" not in str(error.value)
    assert len(expand_sources([place], parse_pages("first")).sources) == 1


def test_the_pages_that_bytes_hold_are_told_with_a_remedy_that_works() -> None:
    content = io.BytesIO()
    frame = Image.new("RGB", (8, 8))
    frame.save(content, "TIFF", save_all=True, append_images=[frame])
    (remark,) = read_picture(content.getvalue()).remarks
    assert (
        str(remark)
        == "holds 2 pages; the first is read; save the content as a file and give its path to read the others"
    )


def test_names_that_are_no_utf_8_stay_apart() -> None:
    names = [Source(Path(os.fsdecode(name))).file_name for name in (b"\xff.png", b"\xfe.png")]
    assert names == ["\\xff.png", "\\xfe.png"]
