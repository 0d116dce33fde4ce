"""Count tracked objects that cross a line, and those inside a zone, from the lines of `condinst predict --track`.

    condinst predict street.mp4 --model people --track --out my_results
    python examples/films/count.py my_results/street.jsonl --line 0,240,640,240 --zone 100,100,300,400

--line x0,y0,x1,y1: counts the objects whose middle goes from one side to the other. "left to right" is as seen by
somebody who walks from (x0, y0) to (x1, y1). --zone x0,y0,x1,y1: prints how many middles are inside, at most and on
average. Coordinates are pixels of the film.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

Point = tuple[float, float]
Corners = tuple[float, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="Count objects in the lines of a film.")
    parser.add_argument("lines", type=Path)
    parser.add_argument("--line", type=corners)
    parser.add_argument("--zone", type=corners)
    given = parser.parse_args()
    frames = list(read_middles(given.lines))
    if given.line:
        right, left = count_crossings(frames, given.line)
        print(f"left to right: {right}, right to left: {left}")
    if given.zone:
        inside = [count_inside(middles, given.zone) for middles in frames]
        print(f"in the zone: at most {max(inside, default=0)}, on average {sum(inside) / max(len(inside), 1):.1f}")


def corners(text: str) -> Corners:
    """'1,2,3,4' → four numbers."""
    x0, y0, x1, y1 = (float(part) for part in text.split(","))
    return x0, y0, x1, y1


def read_middles(path: Path) -> Iterator[dict[int, Point]]:
    """For each frame, the middle of each track's box."""
    with path.open(encoding="utf-8") as lines:
        next(lines)  # the first line describes the film
        for line in lines:
            boxes = {one["track_id"]: one["bbox"] for one in json.loads(line)["annotations"]}
            yield {track: (x + width / 2, y + height / 2) for track, (x, y, width, height) in boxes.items()}


def count_crossings(frames: list[dict[int, Point]], line: Corners) -> tuple[int, int]:
    """How many times a track crosses the line from left to right, and from right to left."""
    last: dict[int, Point] = {}
    right = left = 0
    for middles in frames:
        for track, now in middles.items():
            before = last.get(track, now)
            sides = side(before, line), side(now, line)
            if sides[0] * sides[1] < 0 and passes(before, now, line):
                right, left = (right + 1, left) if sides[0] > 0 else (right, left + 1)
            if sides[1]:  # a middle on the line belongs to neither side
                last[track] = now
    return right, left


def side(point: Point, line: Corners) -> float:
    """Above 0 on the left of somebody who walks along the line (y points down), below 0 on the right."""
    x0, y0, x1, y1 = line
    return (point[0] - x0) * (y1 - y0) - (point[1] - y0) * (x1 - x0)


def passes(before: Point, now: Point, line: Corners) -> bool:
    """Whether the way from `before` to `now` meets the line between its ends."""
    way = (*before, *now)
    return side((line[0], line[1]), way) * side((line[2], line[3]), way) <= 0


def count_inside(middles: dict[int, Point], zone: Corners) -> int:
    """How many middles are inside the zone."""
    x0, y0, x1, y1 = zone
    return sum(x0 <= x <= x1 and y0 <= y <= y1 for x, y in middles.values())


if __name__ == "__main__":
    main()
