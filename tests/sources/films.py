"""Small films with known frames, for the tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 10
Picture = NDArray[np.uint8]


def grey_frames(count: int, height: int = 48, width: int = 64) -> list[Picture]:
    """Frame n has the grey value 8·n everywhere."""
    return [np.full((height, width, 3), 8 * number, dtype=np.uint8) for number in range(count)]


def make_film(path: Path, frames: list[Picture], sound: str = "", rate: int = RATE) -> Path:
    """Write frames in H.264, with a tone of the same length if `sound` names a codec."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("libx264", rate=rate, options={"crf": "1"})
        picture.height, picture.width = frames[0].shape[:2]
        picture.pix_fmt = "yuv420p"
        audio = output.add_stream(sound, rate=48000, layout="mono", bit_rate=96000) if sound else None
        for frame in frames:
            output.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(picture.encode())
        if audio is not None:
            _add_tone(output, audio, 48000 * len(frames) // rate)
    return path


def cut_film(film: Path, path: Path, part: float) -> Path:
    """Write the first `part` of the bytes of a film whose index comes first."""
    first = path.with_name("first.mp4")
    with av.open(str(film)) as source, av.open(str(first), "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    path.write_bytes(first.read_bytes()[: int(first.stat().st_size * part)])
    return path


def _add_tone(output: av.container.OutputContainer, audio: av.AudioStream, samples: int) -> None:
    kind = audio.codec_context.format.name
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48000)
    scaled = {"u8": (tone * 127 + 128, np.uint8), "s16": (tone * 32767, np.int16)}
    values = next((v.astype(t) for name, (v, t) in scaled.items() if kind.startswith(name)), tone.astype(np.float32))
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(values[None, start : start + 1024], format=kind, layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        output.mux(audio.encode(frame))
    output.mux(audio.encode())


def sound_of(path: Path) -> list[bytes]:
    """The packets of sound, as they lie in the file."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]
