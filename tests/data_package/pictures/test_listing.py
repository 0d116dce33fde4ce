"""What a folder holds: links are followed, loops end, files of the system are skipped, closed folders are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from condinst.data.pictures.listing import DEEPEST_LINKS, AnyCase, child, entries, is_system, list_tree


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_tree(folder).files]


SYSTEM = ["._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "@eaDir", "__MACOSX", ".ipynb_checkpoints"]


@pytest.mark.parametrize("name", SYSTEM)
def test_system_files_are_skipped_everywhere(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a/b.png", f"{name}/c.png" if name in SYSTEM[-3:] else f"a/{name}")
    assert is_system(name)
    assert below(tmp_path) == ["a/b.png"]
    assert [path.name for path in entries(tmp_path)] == ["a"]
    assert not is_system("thumbs.png")


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path, "store/deep/a.png", "set/b.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "self").symlink_to(tmp_path / "set")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "set")
    assert below(tmp_path / "set") == ["b.png", "linked/deep/a.png"]
    tree = list_tree(tmp_path / "set")
    assert (tree.closed, tree.broken, tree.unfollowed) == ((), (), ())


def test_many_links_to_one_another_end(tmp_path: Path) -> None:
    """Twelve folders that all hold links to each other have 12! paths without a loop."""
    for name in range(12):
        make(tmp_path, f"{name}/a.png")
    for name in range(12):
        for other in range(12):
            (tmp_path / str(name) / f"to{other}").symlink_to(tmp_path / str(other))
    tree = list_tree(tmp_path / "0")
    assert len(tree.files) < 12**DEEPEST_LINKS
    assert tree.unfollowed


def test_what_cannot_be_read_is_listed_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "closed/a.png", "b.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree = list_tree(tmp_path)
    assert tree.closed == (tmp_path / "closed",)
    assert tree.broken == (tmp_path / "gone.png",)
    assert tree.files == (tmp_path / "b.png",)
    with pytest.raises(OSError, match="No such file"):
        list_tree(tmp_path / "absent")


def test_letters_of_another_case_and_accents_stored_otherwise(tmp_path: Path) -> None:
    make(tmp_path, "LABELS/A.TXT", "labels/b.txt", "Bilder/Zu\u0308rich.png", "labels/B.TXT")
    names = AnyCase()
    assert names.find(tmp_path / "LABELS" / "a.txt") == tmp_path / "LABELS" / "A.TXT"
    assert names.find(tmp_path / "Labels" / "a.txt") == tmp_path / "LABELS" / "A.TXT"  # the first of two folders
    assert names.find(tmp_path / "labels" / "b.txt") == tmp_path / "labels" / "b.txt"
    assert names.find(tmp_path / "labels" / "B.TXT") == tmp_path / "labels" / "B.TXT"
    assert names.find(tmp_path / "bilder" / "Z\u00fcrich.PNG") == tmp_path / "Bilder" / "Zu\u0308rich.png"
    assert names.find(tmp_path / "labels" / "c.txt") is None
    assert child(tmp_path, "BILDER").name == "Bilder"
    assert child(tmp_path, "none") == tmp_path / "none"
