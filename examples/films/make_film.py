"""Make a short film to try `condinst predict` with: a camera that moves over a micrograph.

python examples/films/make_film.py pan.mp4
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

PICTURE = Path(__file__).parent.parent / "images" / "nuclei" / "fluorescence_large.png"
FRAMES, RATE, HEIGHT, WIDTH = 12, 6, 240, 320
RIGHT, DOWN = 8, 4  # pixels for each frame


def main(path: str) -> None:
    picture = np.asarray(Image.open(PICTURE).convert("RGB"))
    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(FRAMES):
            y, x = DOWN * number, RIGHT * number
            frame = np.ascontiguousarray(picture[y : y + HEIGHT, x : x + WIDTH])
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())


if __name__ == "__main__":
    main(sys.argv[1])
