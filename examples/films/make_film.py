"""Make a short film to try `condinst predict` with: a camera that moves over a micrograph.

python examples/films/make_film.py pan.mp4        # 12 frames
python examples/films/make_film.py long.mp4 90    # 90 frames: there and back
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
STEPS = 46  # frames until the camera turns back


def main(path: str, frames: int = FRAMES) -> None:
    picture = np.asarray(Image.open(PICTURE).convert("RGB"))
    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(frames):
            step = STEPS - abs(number % (2 * STEPS) - STEPS)
            y, x = DOWN * step, RIGHT * step
            frame = np.ascontiguousarray(picture[y : y + HEIGHT, x : x + WIDTH])
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
