"""Results of `condinst predict` survive: kills, Ctrl-C, full disks, other runs, and files of the user's own."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from condinst.cli.results import staging
from condinst.cli.results.journal import Journal
from condinst.cli.results.names import unique_stems
from condinst.cli.results.run import Run as Results
from condinst.data.open import open_data
from condinst.data.pictures import image as image_module
from condinst.data.pictures import picture_file
from condinst.data.sample import Polygons
from condinst.errors import CondinstError
from condinst.lock import locked
from condinst.ops.bitmaps.rle import decode, draw_polygons
from condinst.predictor import Predictor

PICTURES = sorted((Path(__file__).parent.parent / "data" / "nuclei" / "images").glob("*.png"))[:4]
FOLDER = Path(tempfile.mkdtemp(prefix="condinst-"))  # small pictures, as these tests predict many
FILES = [FOLDER / path.name for path in PICTURES]
Run = Callable[..., Result]
SAVE = ("--save", "json,labelme,yolo,csv,geojson,label-image,masks,crops")


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    for path, small in zip(PICTURES, FILES, strict=True):
        with Image.open(path) as image:
            image.convert("RGB").crop((0, 0, 64, 48)).save(small)
    yield
    shutil.rmtree(FOLDER)


@pytest.fixture
def go(run: Run, model_folder: Path) -> Run:
    def with_model(*words: object, **options: Any) -> Result:
        return run("predict", "--model", model_folder, "--device", "cpu", *words, **options)

    return with_model


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name, speed apart, which is another each time."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error(outcome: Result, code: int) -> str:
    assert outcome.exit_code == code, outcome.output
    assert "Traceback" not in outcome.output
    return outcome.stderr.strip().splitlines()[-1]


@contextmanager
def stopped_after(count: int, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, `stop` is called before picture number `count` is noted."""
    whole, calls = Journal.append, []

    def append(journal: Journal, *args: Any) -> None:
        calls.append(1)
        if len(calls) > count:
            stop()
        whole(journal, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        yield


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def fail() -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(("stop", "code"), [(interrupt, 130), (terminate, 143), (fail, 1)])
def test_a_run_that_ends_early_is_closed_and_goes_on(
    stop: Callable[[], None], code: int, go: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ("--save", "masks,csv,yolo")
    assert go(*FILES, "--out", tmp_path / "whole", *save).exit_code == 0
    out = tmp_path / "out"
    with stopped_after(2, stop, monkeypatch):
        outcome = go(*FILES, "--out", out, *save)
    assert outcome.exit_code == code
    document = json.loads((out / "results.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [str(file) for file in FILES[:2]]
    assert document["info"]["sources"] == 4
    if code != 1:
        assert "stopped after 2 of 4 images" in outcome.stderr
        assert "--resume" in outcome.stderr
    assert go(*FILES, "--out", out, *save, "--resume").exit_code == 0
    assert contents(out) == contents(tmp_path / "whole")
    again = go(*FILES, "--out", out, *save, "--resume")
    assert again.exit_code == 0
    assert "an earlier run finished 4 of 4 images" in again.stderr
    assert contents(out) == contents(tmp_path / "whole")


def test_a_line_cut_off_and_files_without_names_are_mended(go: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert go(*FILES, "--out", out).exit_code == 0
    whole = contents(out)
    journal = out / "results.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    (out / staging.temporary_name(Path("x")).name).write_bytes(b"half")
    for file in (FILES[0], *FILES[2:]):  # the first has a line and no file, as where a run is killed between the two
        (out / f"{file.stem}.png").unlink()
    (out / "results.json").unlink()
    assert go(*FILES, "--out", out, "--resume").exit_code == 0
    after = contents(out)
    assert after.keys() == whole.keys()
    assert all(after[name] == whole[name] for name in whole if name != "results.jsonl")


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
@pytest.mark.parametrize("line", [0, 2])
def test_a_journal_with_a_key_twice_is_one_line(go: Run, tmp_path: Path, option: str, line: int) -> None:
    out = tmp_path / "out"
    assert go(*FILES[:2], "--out", out).exit_code == 0
    journal = out / "results.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    lines[line] = '{"source": "a", ' + lines[line][1:] if line else '{"run_files": [], ' + lines[line][1:]
    journal.write_text("".join(lines))
    before = contents(out)
    said = error(go(*FILES[:2], "--out", out, option), 1)
    assert said.startswith(f"error: {journal}: damaged (an object has the key")
    assert contents(out) == before


def test_another_run_is_not_replaced_unasked(go: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert go(*FILES[:2], "--out", out, *SAVE).exit_code == 0
    before = contents(out)
    line = error(go(FILES[2], "--out", out), 2)
    assert "--resume" in line
    assert "--overwrite" in line
    assert contents(out) == before
    for words, word in ((("--conf", 0.6), "conf 0.5, this run has 0.6"), (("--size", 32), "size"), ((), "save")):
        line = error(go(*FILES[:2], "--out", out, "--resume", *words), 2)
        assert word in line
        assert "--overwrite" in line
    assert "not in the sources" in error(go(FILES[2], "--out", out, *SAVE, "--resume"), 2)
    assert contents(out) == before
    (out / "mine.txt").write_text("a note")
    (out / "masks" / "mine.png").write_bytes(b"of the user")
    assert go(FILES[2], "--out", out, "--overwrite").exit_code == 0
    kept = {"mine.txt", os.path.join("masks", "mine.png")}
    assert contents(out).keys() == {FILES[2].name, "results.json", "results.jsonl"} | kept


def test_resume_takes_new_pictures_of_a_folder(go: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in FILES[1:3]:
        shutil.copy(file, folder)
    assert go(folder, "--out", tmp_path / "out").exit_code == 0
    shutil.copy(FILES[0], folder)
    assert go(folder, "--out", tmp_path / "out", "--resume").exit_code == 0
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(image["file_name"]).name for image in document["images"]] == [file.name for file in FILES[:3]]


def test_pictures_and_results_in_one_folder(go: Run, tmp_path: Path) -> None:
    for file in FILES[:2]:
        shutil.copy(file, tmp_path)
    assert go(tmp_path, "--out", tmp_path).exit_code == 0
    whole = contents(tmp_path)
    assert len(json.loads(whole["results.json"])["images"]) == 2
    for words in (("--resume",), ("--overwrite",)):
        assert go(tmp_path, "--out", tmp_path, *words).exit_code == 0
        assert contents(tmp_path) == whole


def test_resume_of_nothing_says_so(go: Run, tmp_path: Path) -> None:
    outcome = go(FILES[0], "--out", tmp_path / "out", "--resume")
    assert outcome.exit_code == 0
    assert "has no run to resume" in outcome.stderr


@pytest.mark.parametrize("name", ["results.json", "results.jsonl", "results.csv"])
@pytest.mark.parametrize("words", [(), ("--resume",), ("--overwrite",)])
def test_a_file_of_the_users_is_never_replaced(name: str, words: tuple[str, ...], go: Run, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"images": []}\n')
    line = error(go(FILES[0], "--out", tmp_path, "--save", "csv", *words), 2)
    for word in (name, "--resume", "--overwrite", "did not write"):
        assert word in line
    assert contents(tmp_path) == {name: b'{"images": []}\n'}


def test_an_overlay_replaces_no_file(go: Run, tmp_path: Path) -> None:
    name = FILES[0].name
    (tmp_path / name).write_bytes(b"of the user")
    assert go(FILES[0], "--out", tmp_path).exit_code == 0
    assert (tmp_path / name).read_bytes() == b"of the user"
    image = json.loads((tmp_path / "results.json").read_text())["images"][0]
    assert image["overlay"] == f"{FILES[0].stem}-2.png"
    assert go(FILES[1], "--out", tmp_path, "--overwrite").exit_code == 0
    assert contents(tmp_path).keys() == {name, FILES[1].name, "results.json", "results.jsonl"}


def test_a_journal_cannot_have_files_elsewhere_removed(go: Run, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    victim.write_text("mine")
    assert go(FILES[0], "--out", out).exit_code == 0
    (out / "link").symlink_to(tmp_path, target_is_directory=True)
    journal = out / "results.jsonl"
    names = ["../victim.txt", str(victim), "link/victim.txt"]
    journal.write_bytes(journal.read_bytes() + json.dumps({"source": "x", "files": names}).encode() + b"\n")
    assert go(FILES[0], "--out", out, "--overwrite").exit_code == 0
    assert victim.read_text() == "mine"


def test_one_run_at_a_time(go: Run, tmp_path: Path) -> None:
    with locked(tmp_path, "writing"):
        assert "another run is writing in this folder" in error(go(FILES[0], "--out", tmp_path), 2)
    assert not list(tmp_path.iterdir())
    assert go(FILES[0], "--out", tmp_path).exit_code == 0


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within, no file may grow beyond `size` bytes, as on a disk that is full for large files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_costs_that_file_only(go: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (1000, 1000, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    out = tmp_path / "out"
    sources = [FILES[0], tmp_path / "noise.png", FILES[1]]
    with largest_file(400_000):
        outcome = go(*sources, "--out", out)
    assert "1 files could not be written" in error(outcome, 1)
    assert f"not written: {out / 'noise.png'}: File too large" in outcome.stderr
    images = json.loads((out / "results.json").read_text())["images"]
    assert [image.get("overlay") for image in images] == [FILES[0].name, None, FILES[1].name]
    assert go(*sources, "--out", out, "--resume").exit_code == 0
    images = json.loads((out / "results.json").read_text())["images"]
    assert [image.get("overlay") for image in images] == [FILES[0].name, "noise.png", FILES[1].name]
    assert not [name for name in contents(out) if name.endswith(".part")]


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on(go: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with largest_file(4_000):  # room for the journal's first lines
        line = error(go(*FILES, "--no-overlay", "--out", out), 1)
    assert "results.jsonl: cannot be written (File too large)" in line
    assert "--resume" in line
    assert go(*FILES, "--no-overlay", "--out", out, "--resume").exit_code == 0
    assert go(*FILES, "--no-overlay", "--out", tmp_path / "whole").exit_code == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_long_and_strange_names(go: Run, tmp_path: Path) -> None:
    names = ["a" * 240, "a" * 239 + "b", "\U00020000" * 59, "é", "e\u0301", "x" * 60]
    for name in names:
        shutil.copy(FILES[0], tmp_path / f"{name}.png")
    out = tmp_path / "out"
    outcome = go(tmp_path, "--out", out)
    assert outcome.exit_code == 0, outcome.output
    images = json.loads((out / "results.json").read_text())["images"]
    assert len({image["overlay"] for image in images}) == len(images) == len(names)
    assert all((out / image["overlay"]).is_file() for image in images)


def test_unique_stems() -> None:
    taken = {"b", "b-2"}.__contains__
    stems = ["a", "A", "a-2", "a", "b", "b", "\u00e9", "e\u0301"]
    found = list(unique_stems(stems, taken))
    assert found == ["a", "A-2", "a-2-2", "a-3", "b-3", "b-4", "\u00e9", "e\u0301-2"]
    assert len({name.casefold() for name in found}) == len(found)


def test_memory_does_not_grow_with_the_results(tmp_path: Path) -> None:
    header = {"description": "d", "categories": [], "run_files": []}
    journal = Journal.begin(tmp_path / "results.jsonl", header, 1000)
    record = {"image": {"file_name": "x"}, "annotations": [{"bbox": [0, 0, 1, 1], "pad": "y" * 1000}]}
    import tracemalloc

    tracemalloc.start()
    for index in range(1000):
        journal.append(index, {"source": str(index), **record})
    from condinst.cli.results.document import close_results

    close_results(journal, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "results.json").stat().st_size > 1_000_000
    assert peak < 200_000
    assert isinstance(Results, type)


@pytest.fixture(scope="module")
def saved(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from condinst.cli.main import app

    out = tmp_path_factory.mktemp("saved") / "out"
    words = ["predict", *map(str, FILES[:2]), "--model", str(model_folder), "--device", "cpu", "--out", str(out), *SAVE]
    assert CliRunner().invoke(app, words).exit_code == 0
    return out


def drawn(size: tuple[int, int], instance: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    shape = instance.shape
    if isinstance(shape, Polygons):
        return decode(draw_polygons(shape.parts, *size))
    canvas = np.zeros(size, dtype=bool)
    bitmap = decode(shape.rle)
    canvas[shape.y : shape.y + bitmap.shape[0], shape.x : shape.x + bitmap.shape[1]] = bitmap
    return canvas


def test_formats_of_one_picture(saved: Path, model_folder: Path) -> None:
    result = Predictor(model_folder, device="cpu")(FILES[0])
    document = json.loads((saved / "results.json").read_text())
    image = document["images"][0]
    masks = np.asarray(result.masks.data)
    for row, name in enumerate(image["masks"]):
        np.testing.assert_array_equal(np.asarray(Image.open(saved / name)) == 255, masks[row])
    assert len(image["crops"]) == len(image["masks"]) == len(result)
    assert json.loads((saved / image["json"]).read_text())[0]["name"] == "nucleus"
    np.testing.assert_array_equal(np.asarray(Image.open(saved / image["label_image"])), result.label_image())
    table = (saved / "results.csv").read_text().splitlines()
    assert table[0] == "file,page,class,score,x1,y1,x2,y2,area"
    assert len(table) == 1 + len(document["annotations"])


@pytest.mark.parametrize("kind", ["labelme", "yolo"])
def test_annotation_tools_and_condinst_read_the_masks_again(kind: str, saved: Path, model_folder: Path) -> None:
    data = open_data(saved / kind)
    predictor = Predictor(model_folder, device="cpu")
    assert len(data.samples) == 2
    for sample, file in zip(sorted(data.samples, key=lambda sample: sample.path.name), FILES, strict=False):
        masks = np.asarray(predictor(file).masks.data)
        expected = {mask.tobytes() for mask in masks if mask.any()}
        found = {drawn(masks.shape[1:], instance).tobytes() for instance in sample.instances}
        assert found == expected
        assert {data.classes[instance.label] for instance in sample.instances} == {"nucleus"}


def test_every_reading_of_a_picture_has_the_stated_limit(
    go: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlays and crops read the picture again, by the limit that the user states."""
    limits: list[int] = []
    check = picture_file.check_size

    def record(image: Image.Image, name: str, max_pixels: int, *more: int) -> None:
        limits.append(max_pixels)
        check(image, name, max_pixels, *more)

    for module in (picture_file, image_module):
        monkeypatch.setattr(module, "check_size", record)
    outcome = go(FILES[0], "--out", tmp_path / "out", *SAVE, "--max-pixels", 64 * 48)
    assert outcome.exit_code == 0, outcome.output
    assert limits
    assert set(limits) <= {64 * 48, 10**18}  # pages are counted before any picture is chosen
    assert (tmp_path / "out" / f"{FILES[0].stem}.png").exists()


@pytest.mark.parametrize("method", ["plot", "save"])
def test_a_result_is_drawn_with_the_limit_of_its_predictor(
    method: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Predictor(model_folder, "cpu", max_pixels=64 * 48)(FILES[0])
    limits: list[int] = []
    monkeypatch.setattr(picture_file, "check_size", lambda image, name, max_pixels, *_: limits.append(max_pixels))
    result.plot() if method == "plot" else result.save(tmp_path / "a.png")
    assert limits
    assert set(limits) == {64 * 48}


def test_classes(go: Run, tmp_path: Path) -> None:
    assert "there is no class 'cell'" in error(go(FILES[0], "--out", tmp_path / "a", "--classes", "cell"), 2)
    for word in ("nucleus", "0", "nucleus,0"):
        assert len(json.loads(go(FILES[0], "--json", "--classes", word).stdout)["annotations"]) == 20


def test_save_needs_known_formats_and_a_folder(go: Run, tmp_path: Path) -> None:
    assert "label-image" in error(go(FILES[0], "--out", tmp_path, "--save", "voc"), 2)
    assert "--out" in error(go(FILES[0], "--json", "--save", "yolo"), 2)
    assert "give only one of them" in error(go(FILES[0], "--out", tmp_path, "--resume", "--overwrite"), 2)


def test_a_disk_that_is_full_from_the_first_line_on(tmp_path: Path) -> None:
    """No empty journal stays, which --resume would take for a file of the user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(CondinstError, match=r"results.jsonl: cannot be written .*continue with --resume"):
            Journal.begin(tmp_path / "results.jsonl", {"model": "m"}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
