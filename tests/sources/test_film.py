"""Frames of a film: which ones, when they are shown, and one line for a film that cannot be used."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from condinst.errors import CondinstError, DataError, TooLargeError, UsageError
from condinst.sources.film import Part, describe_film, is_film, read_frames
from tests.sources.films import cut_film, grey_frames, make_film, sound_of

pytest.importorskip("av", reason="PyAV is not installed: pip install 'condinst[video]'")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("films") / "grey.mp4", grey_frames(24), sound="aac")


def numbers(place: Path, part: Part) -> list[int]:
    """The frames by their grey value, which must agree with their number and time."""
    found = []
    for frame in read_frames(str(place), part):
        assert frame.array.shape == (48, 64, 3)
        assert abs(float(frame.array.mean()) - 8 * frame.number) < 3
        assert frame.seconds == pytest.approx(frame.number / 10)
        found.append(frame.number)
    return found


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("film.mp4", True), ("FILM.MOV", True), ("rtsp://10.0.0.1/one", True), ("0", True), ("photo.jpg", False),
        ("https://host/a.mp4?x=1", True), ("https://host/a.jpg", False), ("folder", False), ("1234", False),
    ],
)  # fmt: skip
def test_a_film_is_known_by_its_name(place: str, expected: bool) -> None:
    assert is_film(place) is expected


def test_a_file_named_like_a_camera_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(b"")
    assert not is_film("0")


def test_description(film: Path) -> None:
    found = describe_film(str(film))
    assert (found.height, found.width, found.rate, found.frames) == (48, 64, Fraction(10), 24)
    assert found.seconds == pytest.approx(2.4)
    assert found.sound == "aac"
    assert not found.live


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part(), range(24)),
        (Part(every=5), range(0, 24, 5)),
        (Part(start=1.0), range(10, 24)),
        (Part(start=0.65, end=1.5), range(7, 16)),
        (Part(every=3, start=1.0, end=1.9), (10, 13, 16, 19)),
        (Part(start=90.0), ()),
    ],
)
def test_the_chosen_frames(film: Path, part: Part, expected: range) -> None:
    assert numbers(film, part) == list(expected)


def test_frames_are_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone stores frames on their side and the angle beside them."""
    import av

    from condinst.sources import film as module

    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:16, :16] = 255

    class Turned:
        rotation = -90

        def to_ndarray(self, format: str) -> np.ndarray:
            assert format == "rgb24"
            return picture

    found = module._upright(Turned())
    assert found.shape == (64, 48, 3)
    assert found[:16, -16:].min() == 255
    assert hasattr(av.VideoFrame, "rotation")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be opened as a film"),
        (b"no film at all" * 100, "cannot be opened as a film"),
    ],
)
def test_a_file_that_is_no_film(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        describe_film(str(path))
    assert "\n" not in str(error.value)


def test_missing_camera_and_server_are_one_line() -> None:
    with pytest.raises(DataError, match=r"camera 97: cannot be opened as a camera \("):
        describe_film("97")
    with pytest.raises(DataError, match=r"rtsp://\S*127.0.0.1:9/a: cannot be opened as a film \(") as error:
        describe_film("rtsp://user:secret@127.0.0.1:9/a")
    assert "secret" not in str(error.value)
    with pytest.raises(DataError, match=r"nothing\.mp4: no such file"):
        describe_film("nothing.mp4")


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "tone.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        output.mux(audio.encode(frame))
        output.mux(audio.encode())
    with pytest.raises(DataError, match="has no pictures, only sound"):
        describe_film(str(tmp_path / "tone.mp4"))


def test_a_truncated_film_gives_its_frames_and_one_line(tmp_path: Path) -> None:
    """A film whose index comes first, cut in the middle, as a download that broke off."""
    whole = make_film(
        tmp_path / "whole.mp4", [np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8) for n in range(24)]
    )
    cut = cut_film(whole, tmp_path / "cut.mp4", 0.6)
    seen = []

    frames = read_frames(str(cut))
    with pytest.raises(DataError, match=r"cut.mp4: breaks off after (frame )?\d+.*the frames before it were read"):
        seen.extend(iter(lambda: next(frames).number, None))
    assert 3 < len(seen) < 24


def test_too_many_pixels_are_refused_before_decoding(film: Path) -> None:
    with pytest.raises(TooLargeError, match="frames of 64×48 pixels"):
        describe_film(str(film), max_pixels=1000)


@pytest.mark.parametrize("part", [Part(every=0), Part(start=-1.0), Part(start=2.0, end=1.0)])
def test_parts_out_of_range(film: Path, part: Part) -> None:
    with pytest.raises(UsageError):
        list(read_frames(str(film), part))


def test_without_pyav_the_error_names_the_extra(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CondinstError, match=r"pip install 'condinst\[video\]'"):
        describe_film(str(film))


def test_sound_is_read_as_packets(film: Path) -> None:
    assert len(sound_of(film)) > 100
