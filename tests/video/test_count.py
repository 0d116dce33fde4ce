"""The example that counts objects over a line and in a zone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def write(path: Path, tracks: dict[int, list[tuple[float, float]]]) -> Path:
    """Boxes of 10×10 pixels around the middles of each track."""
    frames = max(len(middles) for middles in tracks.values())
    lines: list[dict[str, object]] = [{"condinst_film": 1}]
    for frame in range(frames):
        found = [
            {"track_id": track, "bbox": [middles[frame][0] - 5, middles[frame][1] - 5, 10, 10]}
            for track, middles in tracks.items()
            if frame < len(middles)
        ]
        lines.append({"frame": frame, "seconds": frame / 10, "annotations": found})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_crossings_and_zone(tmp_path: Path) -> None:
    """A line that is walked downwards at x = 50, from y = 0 to 100: its left side has the larger x."""
    right = [(80.0 - 10 * n, 50.0) for n in range(6)]
    left = [(20.0 + 10 * n, 30.0) for n in range(6)]
    there_and_back = [(60.0, 20.0), (40.0, 20.0), (50.0, 20.0), (60.0, 20.0)]
    past_the_end = [(60.0, 150.0), (40.0, 150.0)]
    touching = [(60.0, 70.0), (50.0, 70.0), (60.0, 70.0)]
    tracks = {1: right, 2: left, 3: there_and_back, 4: past_the_end, 5: touching}
    path = write(tmp_path / "film.jsonl", tracks)
    line = [sys.executable, "examples/films/count.py", str(path), "--line", "50,0,50,100", "--zone", "55,0,90,100"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "left to right: 2, right to left: 2",
        "in the zone: at most 3, on average 1.5",
    ]
