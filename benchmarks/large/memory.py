"""Memory and time of a large picture in tiles, up to 20,000 × 20,000 pixels with 200,000 objects.

    python -m benchmarks.large.memory                    # writes benchmarks/results/large-memory.json
    python -m benchmarks.large.memory --sides 2000,5000 --out /tmp/large.json

The picture is a tiled TIFF of discs on a grid, each at its own place and size. A perfect network takes the place of the
model: in each tile it finds the discs that it sees, cut by the border or not. So the numbers are those of reading,
joining, encoding and writing, and the truth is known: every disc must be found once, with its own pixels. Each size is
a process of its own. Its memory is the peak of the resident memory, with Python and PyTorch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile
import torch
import typer
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.facts import RESULTS, ROOT, Facts, run_command
from benchmarks.speed.measure import command_line, describe_machine
from condinst.config import Config
from condinst.files import replace_file
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.pipeline import Pipeline, Prepared, Seen
from condinst.inference.result import Result
from condinst.inference.tiles.run import Journals, Tiles
from condinst.methods.choose import method_of
from condinst.ops.bitmaps.rle import Region, encode
from condinst.sources.read import Picture, open_source

FILE = "large-memory.json"
SPACING = 44.6  # pixels between the centres of neighbouring discs: 200,704 discs in 20,000 × 20,000 pixels
RADII = 9.0, 17.0
PART = 512  # side of a tile of the file
SPOT = 200  # value of a disc


class Size(Facts):
    """One picture. seconds: of all tiles. megabytes: of 10⁶ bytes, the peak. wrong: masks with other pixels."""

    side: int
    objects: int
    found: int
    wrong: int
    tiles: int
    seconds: float
    megabytes: int
    results_megabytes: float
    preview_seconds: float


class Sizes(Facts):
    """What the benchmark's JSON file holds."""

    command: str
    machine: str
    tile: int
    overlap: float
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class Discs:
    """The discs of a picture. Centres and radii in pixels: (N,) float64."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]

    @classmethod
    def scattered(cls, side: int) -> Discs:
        """A disc in each cell of a grid. No two touch, and none touches the border of the picture."""
        rng = np.random.default_rng(side)
        count = int(side / SPACING)
        rows, columns = (axis.ravel() for axis in np.mgrid[:count, :count])
        radius = rng.uniform(*RADII, len(rows))
        room = (SPACING - 4) / 2 - radius
        x, y = ((axis + 0.5) * SPACING + rng.uniform(-1, 1, len(rows)) * room for axis in (columns, rows))
        return cls(x, y, radius)

    def draw(self, left: int, top: int, side: int) -> NDArray[np.uint8]:
        """A square part of the picture."""
        near = (np.abs(self.x - left - side / 2) < side / 2 + 20) & (np.abs(self.y - top - side / 2) < side / 2 + 20)
        part = np.full((side, side), 30, dtype=np.uint8)
        for x, y, radius in zip(self.x[near] - left, self.y[near] - top, self.radius[near], strict=True):
            bitmap, column, row = disc(x, y, radius)
            x0, y0 = max(column, 0), max(row, 0)
            x1, y1 = min(column + bitmap.shape[1], side), min(row + bitmap.shape[0], side)
            if x0 < x1 and y0 < y1:
                part[y0:y1, x0:x1][bitmap[y0 - row : y1 - row, x0 - column : x1 - column]] = SPOT
        return part


def disc(x: float, y: float, radius: float) -> Region:
    """The pixels whose centre lies inside a disc."""
    left, top = int(np.floor(x - radius)), int(np.floor(y - radius))
    size = int(np.ceil(2 * radius)) + 2
    rows, columns = np.mgrid[top : top + size, left : left + size] + 0.5
    return Region((columns - x) ** 2 + (rows - y) ** 2 <= radius**2, left, top)


class PerfectPipeline(Pipeline):
    """Finds the discs of a picture: the connected bright pixels."""

    def prepare(self, pictures: Sequence[Picture], reading: float = 0) -> Prepared:
        return Prepared(tuple(pictures), None, reading)  # type: ignore[arg-type]  # no network, no input

    def forward(self, prepared: Prepared) -> Seen:
        return Seen(None, [], 0.0)

    def assemble(self, prepared: Prepared, seen: Seen) -> list[Result]:
        return [find_discs(picture) for picture in prepared.pictures]


def find_discs(picture: Picture) -> Result:
    """The bright discs of a picture as instances."""
    labels, _ = ndimage.label(picture.array[..., 0] == SPOT)
    height, width = labels.shape
    boxes, rles = [], []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        rles.append(encode(Region(labels[place] == number, columns.start, rows.start), height, width))
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
    found = Boxes(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.full((len(boxes),), 0.9),
        torch.zeros(len(boxes), dtype=torch.int64),
        (height, width),
    )
    speed = dict.fromkeys(("preprocess", "inference", "postprocess"), 0.0)
    return Result(found, Masks(tuple(rles), (height, width)), {0: "disc"}, (height, width), speed=speed)


def write_picture(path: Path, side: int, discs: Discs) -> None:
    """Write the picture, tile by tile."""

    def parts() -> Iterator[NDArray[np.uint8]]:
        for top in range(0, side, PART):
            for left in range(0, side, PART):
                yield discs.draw(left, top, PART)

    with tifffile.TiffWriter(path) as writer:
        writer.write(
            parts(), shape=(side, side), dtype=np.uint8, tile=(PART, PART), compression="deflate", photometric=1
        )


def measure(path: Path, side: int, tile: int, overlap: float, folder: Path) -> dict[str, Any]:
    """Segment a picture and compare with the truth."""
    config = Config.from_dict({"model": {"classes": ["disc"]}, "input": {"tile": tile, "overlap": overlap}})
    pipeline = PerfectPipeline(None, torch.device("cpu"), config, method_of(config.model))  # type: ignore[arg-type]
    longest = 0

    def on_tile(name: str, done: int, total: int) -> None:
        nonlocal longest
        longest = total

    tiles = Tiles(pipeline, 1, Journals(folder / "tiles", "perfect"), on_tile)
    begun = time.perf_counter()
    result = tiles.segment(open_source(path, tiles.cuts))
    seconds = time.perf_counter() - begun
    written = folder / "results.json"
    with written.open("w") as file:
        json.dump(result.to_coco(), file)
    begun = time.perf_counter()
    result.preview().save(folder / "preview.png")
    preview = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "side": side,
        **compare(result, side),
        "tiles": longest,
        "seconds": round(seconds, 1),
        "megabytes": round(peak / 1e6),
        "results_megabytes": round(written.stat().st_size / 1e6, 1),
        "preview_seconds": round(preview, 1),
    }


def compare(result: Result, side: int) -> dict[str, int]:
    """The number of discs, of instances, and of discs without an instance that has exactly their pixels."""
    discs = Discs.scattered(side)
    masks = {(rle["counts"]) for rle in result.masks.rle}
    wrong = 0
    for x, y, radius in zip(discs.x, discs.y, discs.radius, strict=True):
        wrong += encode(disc(x, y, radius), side, side)["counts"] not in masks
    return {"objects": len(discs.x), "found": len(result), "wrong": wrong}


def main(
    sides: Annotated[str, typer.Option(help="Sides of the pictures, in pixels.")] = "2000,5000,10000,20000",
    tile: int = 1024,
    overlap: float = 0.2,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = RESULTS / FILE,
    one: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure each size in a process of its own."""
    if one:
        path = Path(one)
        print(json.dumps(measure(path, int(sides), tile, overlap, path.parent / "out")))
        return
    found = []
    for side in map(int, sides.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "discs.tif"
            (Path(folder) / "out").mkdir()
            write_picture(path, side, Discs.scattered(side))
            line = [sys.executable, "-m", "benchmarks.large.memory", "--sides", str(side), "--tile", str(tile)]
            done = subprocess.run(
                [*line, "--overlap", str(overlap), "--one", str(path)], cwd=ROOT, check=True, stdout=subprocess.PIPE
            )
            found.append(Size.model_validate_json(done.stdout))
            print(found[-1], flush=True)
    machine = describe_machine("cpu")
    sizes = Sizes(command=command_line(), machine=machine.cpu, tile=tile, overlap=overlap, sizes=tuple(found))
    replace_file(out, (sizes.model_dump_json(indent=1) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
