"""Manifests, places and the folder of the results, without a cluster."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from condinst.errors import CondinstError, DataError, TooLargeError, UsageError
from condinst.many.rows import PARQUET, writer
from condinst.ray import predict_manifest, run

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is missing")


def rows_of(pictures: list[str]) -> bytes:
    content = io.BytesIO()
    with writer(PARQUET, content) as write:
        for picture in pictures:
            write({"source": picture, "left_out": "a reason"})
    return content.getvalue()


def test_a_manifest_is_text_or_parquet(tmp_path: Path) -> None:
    from condinst.ray.places import read_manifest

    names = ["a b.png", "s3://bucket/ä#.png", " c.png"]
    files = {
        "list.txt": "a b.png\r\n\ns3://bucket/ä#.png\n c.png\na b.png".encode(),
        "list.parquet": rows_of([*names, names[0]]),
        "empty.txt": b"\n",
        "bad.txt": b"\xff",
        "bad.parquet": b"x",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in ("list.txt", "list.parquet"):
        assert read_manifest(str(tmp_path / name), "source") == names
    with pytest.raises(DataError, match="has no column 'file'"):
        read_manifest(str(tmp_path / "list.parquet"), "file")
    with pytest.raises(DataError, match="holds no pictures"):
        read_manifest(str(tmp_path / "empty.txt"), "source")
    for name in ("bad.txt", "bad.parquet", "none.txt", "."):
        with pytest.raises(DataError, match="cannot be read as a list of pictures"):
            read_manifest(str(tmp_path / name), "source")


def test_files_of_other_shards_count(tmp_path: Path) -> None:
    """Another size of shards, and a manifest that has grown."""
    from condinst.ray.store import Store, name_of

    store, names = Store(str(tmp_path)), [f"{number}.png" for number in range(10)]
    for part in (names[:4], names[8:]):
        store.write(name_of(part), rows_of(part))
    assert list(run.waiting(names, 4, store).values()) == [names[4:8]]
    assert list(run.waiting([*names, "new.png"], 4, store).values()) == [names[4:8], ["new.png"]]
    assert list(run.waiting(names, 3, store).values()) == [names[4:6], names[6:8]]
    for name, part in run.waiting(names, 3, store).items():
        store.write(name, rows_of(part))
    assert run.waiting(names, 3, store) == run.waiting(names, 4, store) == {}
    (tmp_path / name_of(["x"])).write_bytes(b"PAR1")
    with pytest.raises(CondinstError, match=r"cannot be read .*; remove the file"):
        run.waiting(names, 3, store)


def test_a_folder_has_the_results_of_one_setting(tmp_path: Path) -> None:
    from condinst.ray.store import Store

    store = Store(str(tmp_path / "out"))
    for _ in range(2):
        store.keep_settings({"model": "nuclei", "conf": 0.5})
    with pytest.raises(UsageError, match="holds results with another conf"):
        store.keep_settings({"model": "nuclei", "conf": 0.4})
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        Store(str(tmp_path)).keep_settings({})
    with pytest.raises(CondinstError, match="cannot be used for the results"):
        Store(str(tmp_path / "mine.txt" / "out")).keep_settings({})


def test_other_schemes_come_from_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.ray import places
    from condinst.ray.store import Store

    store = Store("memory://cells/out/")
    store.write("a.png", b"content")
    assert store.names() == {"a.png"}
    assert places.fetch("memory://cells/out/a.png").read() == b"content"
    monkeypatch.setattr(places, "PICTURE_BYTES", 3)
    with pytest.raises(TooLargeError, match="over 0 MiB"):
        places.fetch("memory://cells/out/a.png")
    for place, message in (("memory://none.png", "cannot be fetched"), ("nowhere://a", "Protocol not known")):
        with pytest.raises(DataError, match=f"{place}: .*{message}"):
            places.fetch(place)


def test_a_bucket_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.ray.places import check_access

    login = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (login | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=r"^s3://locked/b.png: cannot be reached \(.*\); check the credentials$"):
        check_access(["a.png", "http://host/a.png", "s3://locked/a.png", "s3://locked/b.png"])


def test_wrong_arguments_and_missing_packages_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "ray" else name)
    with pytest.raises(UsageError, match=r"needs the package ray; install it: pip install 'condinst\[ray\]'"):
        predict_manifest("list.txt", tmp_path)
    monkeypatch.setattr(run, "find_spec", lambda name: name)
    with pytest.raises(UsageError, match="actors: expected a number from 1 on, got 0"):
        predict_manifest("list.txt", tmp_path, actors=0)


def test_the_command_says_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "condinst.ray", "none.txt", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == DataError.exit_code
    assert done.stderr.startswith("error: none.txt: cannot be read as a list of pictures (")
    assert len(done.stderr.splitlines()) == 1
