"""`condinst predict`: what it writes and prints, and that one bad image spoils neither the others nor the exit code."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import Result

from condinst import web as web_module
from condinst.predictor import Predictor

IMAGES = Path(__file__).parent.parent / "data" / "nuclei" / "images"
FILES = sorted(IMAGES.glob("*.png"))[:3]
Run = Callable[..., Result]


@pytest.fixture
def go(run: Run, model_folder: Path) -> Run:
    def with_model(*words: object, **options: Any) -> Result:
        return run("predict", "--model", model_folder, "--device", "cpu", *words, **options)

    return with_model


def one_line(outcome: Result, code: int) -> str:
    """The single line an error ends with; no traceback above it."""
    assert outcome.exit_code == code, outcome.output
    assert "Traceback" not in outcome.output
    lines = outcome.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


def test_overlays_and_document(go: Run, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    outcome = go(*FILES, "--out", out, "--scale", 1, "--no-legend")
    assert outcome.exit_code == 0, outcome.output
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(file.name for file in FILES), "results.json", "results.jsonl"]
    )
    document = json.loads((out / "results.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [str(file) for file in FILES]
    assert document["categories"] == [{"id": 1, "name": "nucleus"}]
    result = Predictor(model_folder, device="cpu")(FILES[0])
    found = [record for record in document["annotations"] if record["image_id"] == 1]
    assert len(found) == len(result) > 0
    assert [record["segmentation"] for record in found] == [dict(rle) for rle in result.masks.rle]
    np.testing.assert_allclose([record["score"] for record in found], result.boxes.conf, atol=5.1e-5)
    assert all(record["score"] == round(record["score"], 4) for record in found)
    boxes = np.array([record["bbox"] for record in found])
    np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], result.boxes.xyxy[:, 2:], atol=0.0101)
    assert (boxes == boxes.round(2)).all()
    for file, image in zip(FILES, document["images"], strict=True):
        with Image.open(file) as source, Image.open(out / file.name) as overlay:
            assert overlay.size == source.size == (image["width"], image["height"])
            assert not np.array_equal(np.asarray(overlay.convert("RGB")), np.asarray(source.convert("RGB")))


def test_the_document_is_one_pycocotools_reads(go: Run, tmp_path: Path) -> None:
    assert go(*FILES, "--out", tmp_path).exit_code == 0
    coco = COCO(str(tmp_path / "results.json"))
    records = coco.loadAnns(coco.getAnnIds())
    assert len({record["id"] for record in records}) == len(records) > 0
    assert all(coco.annToMask(record).sum() == record["area"] for record in records)


def test_a_line_for_each_picture_and_a_total(go: Run, tmp_path: Path) -> None:
    outcome = go(*FILES, "--out", tmp_path / "out")
    lines = outcome.stdout.splitlines()
    assert len(lines) == len(FILES) + 1
    for line, file in zip(lines, FILES, strict=False):
        assert re.fullmatch(rf"{re.escape(str(file))}: 20 nucleus, \d+ ms", line)
    assert re.fullmatch(r"3 images, 60 instances, \d+\.\d s; overlays and results.json are in .*/out", lines[-1])
    assert outcome.stderr == ""


def test_verbose_adds_the_table(go: Run, tmp_path: Path) -> None:
    printed = go(FILES[0], "--out", tmp_path / "out", "--verbose").stdout
    for word in ("class", "score", "box", "area", "nucleus", "10 more"):
        assert word in printed


def test_json_prints_the_document_alone_and_writes_nothing(go: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = go(FILES[0], "--json")
    assert outcome.exit_code == 0
    assert len(json.loads(outcome.stdout)["annotations"]) > 0
    assert list(tmp_path.iterdir()) == []
    written = go(FILES[0], "--json", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "results.json").read_text() == written.stdout
    assert json.loads(written.stdout)["annotations"] == json.loads(outcome.stdout)["annotations"]


def test_a_list(go: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text(f"{FILES[1].absolute()}\n\nmissing.png\r\n@cell.png\n", encoding="utf-8")
    Path("@cell.png").write_bytes(FILES[0].read_bytes())
    assert "1 of 3 sources" in one_line(go("@list.txt", "--out", "out"), 3)
    names = [image["file_name"] for image in json.loads(Path("out/results.json").read_text())["images"]]
    assert names == [str(FILES[1].absolute()), "@cell.png"]
    assert go("@cell.png", "--out", "named").exit_code == 0
    assert "none.txt: cannot be read as a list of pictures (No such file" in one_line(go("@none.txt"), 3)
    assert "--workers is not for films" in one_line(go("film.mp4", "--workers", 2), 2)


def test_folders_and_patterns(go: Run, tmp_path: Path) -> None:
    for file in FILES:
        shutil.copy(file, tmp_path)
    names = [str(tmp_path / file.name) for file in FILES]
    for source in (tmp_path, f"{tmp_path}/*.png"):
        document = json.loads(go(source, tmp_path / FILES[0].name, "--json").stdout)
        assert [image["file_name"] for image in document["images"]] == names  # each image once


def test_conf_and_limit_and_size(go: Run) -> None:
    def scores(*words: object) -> list[float]:
        return [record["score"] for record in json.loads(go(FILES[0], "--json", *words).stdout)["annotations"]]

    everything = scores()
    middle = sorted(everything)[len(everything) // 2]
    lowest = middle - 6e-5  # scores are rounded to 4 digits
    assert scores("--conf", lowest) == [score for score in everything if score >= lowest]
    assert len(scores("--max-detections", 3)) == 3
    assert scores("--size", 96, "--max-size", 96) != everything
    assert scores("--nms", "matrix") != everything


def test_two_sources_of_one_name_do_not_overwrite_each_other(go: Run, tmp_path: Path) -> None:
    for folder, suffix, file in (("a", "png", FILES[0]), ("b", "PNG", FILES[1]), ("c", "png", FILES[2])):
        (tmp_path / folder).mkdir()
        shutil.copy(file, tmp_path / folder / f"{'X' if folder == 'b' else 'x'}.{suffix}")
    out = tmp_path / "out"
    assert go(*sorted(tmp_path.glob("*/*")), "--out", out).exit_code == 0
    assert sorted(path.name.lower() for path in out.glob("*.png")) == ["x-2.png", "x-3.png", "x.png"]


def test_an_overlay_never_replaces_its_source(go: Run, tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    shutil.copy(FILES[0], source)
    assert go(source, "--out", tmp_path).exit_code == 0
    assert source.read_bytes() == FILES[0].read_bytes()
    assert (tmp_path / "photo-2.png").is_file()


def bad_files(folder: Path) -> list[Path]:
    """Files that are no usable image, in every way the package knows."""
    good = FILES[0].read_bytes()
    Image.open(FILES[0]).convert("RGB").save(folder / "whole.jpg")
    huge = bytearray(good)
    huge[16:24] = (30_000).to_bytes(4, "big") * 2
    contents = {
        "text.png": b"not an image at all",
        "empty.png": b"",
        "cut.jpg": (folder / "whole.jpg").read_bytes()[:700],
        "huge.png": bytes(huge),
    }
    (folder / "whole.jpg").unlink()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [*(folder / name for name in contents), folder / "absent.png"]


def test_bad_images_among_good_ones(go: Run, tmp_path: Path) -> None:
    bad = bad_files(tmp_path)
    outcome = go(FILES[0], *bad, FILES[1], "--out", tmp_path / "out")
    assert "5 of 7 sources could not be used" in one_line(outcome, 3)
    left_out = [line for line in outcome.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == len(bad)
    assert all(any(str(file) in line for line in left_out) for file in bad)
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [str(FILES[0]), str(FILES[1])]
    assert {record["image_id"] for record in document["annotations"]} == {1, 2}
    assert not list((tmp_path / "out").glob("*.part"))


def test_only_bad_sources_end_before_anything_is_written(go: Run, tmp_path: Path) -> None:
    outcome = go(tmp_path / "absent.png", f"{tmp_path}/*.jpg", "--out", tmp_path / "out")
    assert "nothing to predict" in one_line(outcome, 3)
    assert not (tmp_path / "out").exists()


def test_the_pixel_limit_is_adjustable(go: Run) -> None:
    assert go(FILES[0], "--json", "--max-pixels", 256 * 256).exit_code == 0
    outcome = go(FILES[0], "--json", "--max-pixels", 1000)
    assert one_line(outcome, 3)
    assert "1,000" in outcome.stderr


def test_one_pixel(go: Run, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    outcome = go(tmp_path / "dot.png", "--json")
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["images"][0]["width"] == 1


def test_nothing_found_is_said(go: Run, tmp_path: Path) -> None:
    outcome = go(FILES[0], "--conf", 1, "--out", tmp_path)
    assert outcome.exit_code == 0
    assert "nothing found" in outcome.stdout


def test_standard_input(go: Run) -> None:
    outcome = go("-", "--json", input=FILES[0].read_bytes())
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["annotations"] == json.loads(go(FILES[0], "--json").stdout)["annotations"]
    assert one_line(go("-", "--json", input=b""), 3)
    garbage = go("-", "--json", input=b"junk")
    assert one_line(garbage, 3)
    assert "left out: -: " in garbage.stderr


def test_unwritable_output(go: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = go(FILES[0], "--out", tmp_path / "file" / "out")
    assert "cannot be written" in one_line(outcome, 1)
    (tmp_path / "out" / "results.json").mkdir(parents=True)
    outcome = go(FILES[0], "--out", tmp_path / "out")
    assert "results.json" in one_line(outcome, 2)


def test_model_errors(run: Run, model_folder: Path, tmp_path: Path) -> None:
    assert "no such shipped or published model" in one_line(run("predict", FILES[0], "--model", "nucleii"), 4)
    shutil.copytree(model_folder, tmp_path / "cut")
    path = tmp_path / "cut" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in one_line(run("predict", FILES[0], "--model", tmp_path / "cut", "--json"), 4)


@pytest.mark.parametrize(
    "words",
    [(), ("--conf", "2"), ("--size", "0"), ("--nms", "soft"), ("--colour", "red"), ("--device", "abacus")],
)
def test_usage_errors(go: Run, words: tuple[str, ...]) -> None:
    outcome = go(FILES[0], "--json", *words) if words else go()
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr


class Pictures(BaseHTTPRequestHandler):
    """Serves one picture, one text and nothing else."""

    def do_GET(self) -> None:
        content = {"/a%20cell.png?size=1": FILES[0].read_bytes(), "/page": b"<html>"}.get(self.path)
        self.send_response(200 if content else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_addresses(go: Run, site: str, tmp_path: Path) -> None:
    outcome = go(f"{site}/a%20cell.png?size=1", "--out", tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "a_cell.png").is_file()
    found = json.loads((tmp_path / "results.json").read_text())["annotations"]
    assert found == json.loads(go(FILES[0], "--json").stdout)["annotations"]


def test_bad_addresses(go: Run, site: str, tmp_path: Path, monkeypatch: Any) -> None:
    outcome = go(f"{site}/absent.png", f"{site}/page", "http://127.0.0.1:9/x.png", "http://[bad", FILES[0], "--json")
    assert "4 of 5" in one_line(outcome, 3)
    assert "HTTP 404" in outcome.stderr
    assert f"{site}/page: " in outcome.stderr
    assert outcome.stderr.count("cannot be fetched") == 3
    assert len(json.loads(outcome.stdout)["images"]) == 1
    outcome = go("http://[bad/x.png", FILES[0], "--out", tmp_path)  # a malformed address has no file name to offer
    assert "1 of 2" in one_line(outcome, 3)
    assert (tmp_path / f"{FILES[0].stem}.png").is_file()
    monkeypatch.setattr(web_module, "PICTURE_BYTES", 100)
    outcome = go(f"{site}/a%20cell.png?size=1", "--json")
    assert one_line(outcome, 3)
    assert "download it and give the file" in outcome.stderr


def test_what_is_odd_in_a_picture_is_a_note(go: Run, tmp_path: Path) -> None:
    dark = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    outcome = go(tmp_path / "dark.png", "--out", tmp_path / "out")
    assert outcome.exit_code == 0
    assert "dark.png: values from 0 to 255 use a small part of the range 0 to 65535" in outcome.stderr
    assert outcome.stderr.startswith("note: ")
    assert "PictureWarning" not in outcome.stderr
