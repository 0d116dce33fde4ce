"""What `predict FOLDER` leaves out is told with its count; files of the system are not spoken of."""

from __future__ import annotations

from pathlib import Path

from condinst.cli.predict.skipped import skipped
from condinst.data.pictures.image import list_images


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
        f"{tmp_path}: left out 3 files that are no pictures (2 .txt, 1 .mov)",
        f"{tmp_path}: left out 1 pictures in sub-folders (more); '{tmp_path}/**/*' reads them, too",
        f"{tmp_path}: left out 1 links that lead nowhere (gone)",
    ]
    assert list_images([str(tmp_path)]) == [tmp_path / "a.png"]
    assert list_images([f"{tmp_path}/**/*"]) == [tmp_path / "a.png", tmp_path / "more" / "d.png"]
