"""Films through a shipped model: the written film, its sound, the lines, and what stays after an error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV is not installed: pip install 'condinst[video]'")

from condinst.errors import CondinstError, UsageError
from condinst.predictor import Predictor
from condinst.sources.film import Part, describe_film, read_frames
from condinst.tracking.tracker import Tracker
from condinst.video.run import Background, Times, segment_film
from condinst.video.write import FilmWriter, ending_for
from tests.sources.films import cut_film, grey_frames, make_film, sound_of

PICTURE = Path("examples/images/nuclei/fluorescence_large.png")


def pan(count: int) -> list[np.ndarray]:
    """A camera that moves over nuclei."""
    whole = np.asarray(Image.open(PICTURE).convert("RGB"))
    return [np.ascontiguousarray(whole[2 * n : 2 * n + 128, 4 * n : 4 * n + 161]) for n in range(count)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [np.pad(frame, ((0, 0), (0, 1), (0, 0)), mode="edge") for frame in pan(6)]
    return make_film(tmp_path_factory.mktemp("films") / "cells.mp4", frames, sound="aac")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "condinst", "predict", *arguments, "--size", "128"]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_film_gets_masks_lines_tracks_and_its_own_sound(film: Path, tmp_path: Path) -> None:
    done = run(str(film), "--track", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "6 frames in" in done.stderr
    header, *lines = map(json.loads, (tmp_path / "cells.jsonl").read_text().splitlines())
    assert (header["width"], header["height"], header["rate"]) == (162, 128, 10.0)
    assert [line["frame"] for line in lines] == list(range(6))
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    steady = set.intersection(*({one["track_id"] for one in line["annotations"]} for line in lines))
    assert len(steady) >= 3
    out = tmp_path / "cells.mp4"
    described = describe_film(str(out))
    assert (described.height, described.width, described.frames) == (128, 162, 6)
    assert sound_of(out) == sound_of(film)
    before, after = (np.stack([frame.array for frame in read_frames(str(path))]) for path in (film, out))
    changed = np.abs(before.astype(int) - after).max(axis=(0, 3)) > 40
    assert 0.02 < changed.mean() < 0.9  # masks are drawn, and not everywhere


def test_part_of_a_film_keeps_times_and_sound_of_the_part(film: Path, tmp_path: Path) -> None:
    done = run(str(film), "--start", "0.2", "--every", "2", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    _, *lines = map(json.loads, (tmp_path / "cells.jsonl").read_text().splitlines())
    assert [line["frame"] for line in lines] == [2, 4]
    assert [frame.seconds for frame in read_frames(str(tmp_path / "cells.mp4"))] == pytest.approx([0, 0.2], abs=1e-3)
    whole, part = sound_of(film), sound_of(tmp_path / "cells.mp4")
    assert part == whole[-len(part) :]
    assert len(part) == pytest.approx(len(whole) * 0.4 / 0.6, abs=2)


def test_the_lines_equal_single_predictions(film: Path) -> None:
    predictor = Predictor("nuclei", shorter=128)
    frames = list(read_frames(str(film), Part(every=3)))
    found = list(segment_film(predictor, describe_film(str(film)), Part(every=3)))
    assert [frame.number for frame, _ in found] == [0, 3]
    for frame, (_, result) in zip(frames, found, strict=True):
        alone = predictor(frame.array)
        assert result.masks.rle == alone.masks.rle
        assert np.array_equal(result.boxes.xyxy, alone.boxes.xyxy)


def test_a_film_is_a_source_as_any_other(film: Path) -> None:
    predictor = Predictor("nuclei", shorter=128)
    found = predictor(str(film))
    assert len(found) == 6
    assert found[2].name.endswith("cells.mp4 frame 2")
    frame = next(read_frames(str(film)))
    assert predictor(frame).masks.rle == found[0].masks.rle
    assert [len(one) for one in predictor.stream([PICTURE, film])][1:] == [len(one) for one in found]
    with pytest.raises(UsageError, match=r"rtsp://host/a: a camera or a stream has no end; use predictor\.stream"):
        predictor("rtsp://host/a")


def test_a_broken_film_keeps_what_was_done(tmp_path: Path) -> None:
    """Cut after the index, so that the last frames are missing."""
    film = make_film(tmp_path / "whole.mp4", [frame[:, :160] for frame in pan(12)])
    cut = cut_film(film, tmp_path / "cut.mp4", 0.8)
    done = run(str(cut), "--out", str(tmp_path / "out"))
    assert done.returncode == 3
    assert "breaks off" in done.stderr
    assert "Traceback" not in done.stderr
    lines = (tmp_path / "out" / "cut.jsonl").read_text().splitlines()
    kept = len(list(read_frames(str(tmp_path / "out" / "cut.mp4"))))
    assert 1 <= kept == len(lines) - 1 < 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILM", str(PICTURE)], "films and pictures need runs of their own"),
        (["FILM", "--resume"], "--resume is not for films"),
        (["FILM", "--save", "yolo"], "--save is not for films"),
        (["FILM", "--start", "2", "--end", "1"], "--end 1: expected a time after --start"),
        ([str(PICTURE), "--track"], "--track is for films"),
        ([str(PICTURE), "--every", "2"], "--every is for films"),
        (["nothing.mp4"], "nothing.mp4: no such file"),
    ],
)
def test_wrong_options_are_one_line(film: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    given = [str(film) if word == "FILM" else word for word in arguments]
    done = run(*given, "--out", str(tmp_path / "out"))
    assert done.returncode not in (0, 1)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_earlier_result_and_the_film_itself_stay(film: Path, tmp_path: Path) -> None:
    (tmp_path / "cells.jsonl").write_text("mine")
    assert "exists; add --overwrite" in run(str(film), "--out", str(tmp_path)).stderr
    assert (tmp_path / "cells.jsonl").read_text() == "mine"
    before = film.read_bytes()
    assert "is the film itself" in run(str(film), "--out", str(film.parent), "--overwrite").stderr
    assert film.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_keeps_the_frames_so_far(tmp_path: Path) -> None:
    long = make_film(tmp_path / "long.mp4", [frame[:, :160] for frame in pan(6)] * 60)
    line = [sys.executable, "-m", "condinst", "predict", str(long), "--out", str(tmp_path / "out"), "--size", "128"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        lines = tmp_path / "out" / "long.jsonl"
        until = time.monotonic() + 120
        while time.monotonic() < until and (not lines.exists() or lines.read_text().count("\n") < 4):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "stopped after" in said
    kept = len(list(read_frames(str(tmp_path / "out" / "long.mp4"))))
    assert 3 <= kept <= lines.read_text().count("\n") - 1 < 360


def test_json_lines_go_to_standard_output(film: Path) -> None:
    done = run(str(film), "--json", "--end", "0.15")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line).get("frame") for line in done.stdout.splitlines()] == [None, 0, 1]


def test_sound_that_mp4_cannot_hold_goes_into_matroska(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", grey_frames(4), sound="wavpack")
    assert ending_for(describe_film(str(film))) == ".mkv"
    out = tmp_path / "out.mkv"
    with FilmWriter(out, describe_film(str(film))) as writer:
        for frame in read_frames(str(film)):
            writer.add(frame.array, frame.seconds)
    assert sound_of(out) == sound_of(film)


def test_sound_that_neither_holds_is_left_out_and_said(tmp_path: Path) -> None:
    frames = [frame[:, :160] for frame in pan(2)]
    film = make_film(tmp_path / "film.avi", frames, sound="wmav2")
    done = run(str(film), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "note: the sound (wmav2) is left out, because neither MP4 nor Matroska holds it" in done.stderr
    assert describe_film(str(tmp_path / "out" / "film.mp4")).sound == ""


def test_odd_sides_get_a_copy_of_their_last_line(tmp_path: Path) -> None:
    described = describe_film(str(make_film(tmp_path / "film.mp4", grey_frames(2))))
    with FilmWriter(tmp_path / "odd.mp4", described) as writer:
        for frame in pan(2):
            writer.add(frame[:127], 0.1)
    found = [frame.array for frame in read_frames(str(tmp_path / "odd.mp4"))]
    assert len(found) == 2
    assert found[0].shape == (128, 162, 3)


def test_without_an_encoder_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.video import write

    described = describe_film(str(make_film(tmp_path / "film.mp4", grey_frames(2))))
    monkeypatch.setattr(write, "CODECS", ("none",))
    writer = FilmWriter(tmp_path / "out.mp4", described)
    with pytest.raises(CondinstError, match=r"no encoder for H\.264"):
        writer.add(grey_frames(1)[0], 0.0)


def test_an_error_of_the_background_reaches_the_caller() -> None:
    def work(item: int) -> None:
        if item == 2:
            raise CondinstError("the disk is full")

    def use() -> None:
        with Background(work) as background:
            for item in range(1, 50):
                background(item)

    with pytest.raises(CondinstError, match="the disk is full"):
        use()


def test_a_tracker_sees_the_numbers_of_the_frames(film: Path) -> None:
    predictor, times = Predictor("nuclei", shorter=128, conf=0.1), Times()
    tracker = Tracker()
    found = list(segment_film(predictor, describe_film(str(film)), Part(every=2), tracker, times=times))
    assert tracker.frame == 4
    assert all(result.boxes.is_track for _, result in found)
    assert times.decode > 0
    assert times.network > 0
