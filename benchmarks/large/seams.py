"""What the seams of tiles cost: mosaics of held-out pictures in tiles and as a whole, near the seams and far from them.

    python -m benchmarks.large.seams                     # writes benchmarks/results/large-seams.json

A mosaic has 16 pictures of nuclei of 256 × 256 pixels. The shipped model sees it once as a whole, enlarged as in
training, and in tiles of several sizes. An object is near a seam if its box reaches a border of a tile inside the
mosaic. AP near the seams counts the annotated objects and the instances near them alone, AP far from them the others.
The answer as a whole, measured with the same division, shows what the division itself changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from hotcoco import mask as codec
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.facts import RESULTS, Facts, run_command
from benchmarks.speed.measure import command_line, describe_machine
from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.files import replace_file
from condinst.inference.result import Result
from condinst.inference.tiles.plan import overlap_pixels, plan_windows
from condinst.ops.bitmaps.rle import Region, Rle, decode, encode
from condinst.predictor import Predictor

FILE = "large-seams.json"
SIDE, ACROSS, LIMIT = 256, 4, 2000
CANDIDATES = 32000
SCALE = 2.5  # of the network's input, as in training
AWAY = 40  # pixels from every seam from which masks are compared with those of the whole picture


class Way(Facts):
    """One way to segment the mosaics. tile: pixels, or 0 for the whole mosaic at once.

    near, far: mask AP near the seams of this tile and away from them. whole_near, whole_far: the same for the answer as
    a whole. count: instances. overlap_median: IoU of the masks away from the seams with those of the answer as a
    whole, over the instances of both. matched: the share of these instances that have such a mask (IoU 0.5 or more).
    """

    tile: int
    overlap: float
    count: int
    all: float
    near: float
    far: float
    whole_near: float
    whole_far: float
    near_objects: int
    overlap_median: float
    matched: float


class Seams(Facts):
    """What the benchmark's JSON file holds. objects: annotated in all mosaics."""

    command: str
    machine: str
    mosaics: int
    objects: int
    whole_count: int
    whole_all: float
    ways: tuple[Way, ...]


class Mosaic:
    """Pictures side by side, and their annotated masks. array: (H, W, 3) uint8 RGB."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], masks: Sequence[Sequence[Region]]) -> None:
        rows = [np.concatenate(pictures[row : row + ACROSS], axis=1) for row in range(0, len(pictures), ACROSS)]
        self.array = np.concatenate(rows)
        self.truth: list[Rle] = []
        for index, regions in enumerate(masks):
            row, column = divmod(index, ACROSS)
            for bitmap, x, y in regions:
                place = Region(bitmap, x + column * SIDE, y + row * SIDE)
                self.truth.append(encode(place, *self.array.shape[:2]))


def read_mosaics(data: Path) -> list[Mosaic]:
    """The mosaics of the held-out pictures of 256 × 256 pixels."""
    pictures, masks = [], []
    for sample in read_coco(data / "val.json", data / "images").samples:
        if (sample.height, sample.width) != (SIDE, SIDE):
            continue
        pictures.append(read_image(sample.path))
        found = []
        for instance in sample.instances:
            assert instance.shape is not None
            found.append(Region(decode(instance.shape.whole(SIDE, SIDE)), 0, 0))
        masks.append(found)
    each = ACROSS * ACROSS
    return [
        Mosaic(pictures[first : first + each], masks[first : first + each])
        for first in range(0, len(pictures) - each + 1, each)
    ]


def seams(side: int, tile: int, shared: int) -> list[int]:
    """The borders of tiles inside a picture of this side."""
    starts = {window.x for row in plan_windows(side, side, tile, shared) for window in row}
    return sorted((starts | {start + tile for start in starts}) - {0, side})


def is_near(box: Sequence[float], lines: Sequence[int]) -> bool:
    """Whether a box (x, y, width, height) reaches a seam."""
    x, y, width, height = box
    return any(x <= line <= x + width or y <= line <= y + height for line in lines)


def measure(mosaics: Sequence[Mosaic], results: Sequence[Result], kept: Callable[[Sequence[float]], bool]) -> float:
    """Mask AP of the annotated objects and the instances whose box is kept."""
    images, truths, found = [], [], []
    for number, (mosaic, result) in enumerate(zip(mosaics, results, strict=True), start=1):
        height, width = mosaic.array.shape[:2]
        images.append({"id": number, "height": height, "width": width, "file_name": str(number)})
        for rle in mosaic.truth:
            one = {"id": len(truths) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": rle}
            box = box_of(rle)
            if kept(box):
                truths.append(one | {"bbox": box, "area": area_of(rle)})
        found += [row for row in result.to_coco(number) if kept(box_of(row["segmentation"]))]
    data = COCO()
    data.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "nucleus"}]}
    with redirect_stdout(StringIO()):
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(found), "segm")
        evaluation.params.maxDets = [LIMIT]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[..., 0, 0]  # all sizes
    return float(precision[precision > -1].mean())


def box_of(rle: Rle) -> list[float]:
    """x, y, width and height of a mask."""
    return [float(number) for number in codec.toBbox(dict(rle))]


def area_of(rle: Rle) -> int:
    """The pixels of a mask."""
    return int(codec.area(dict(rle)))


def agreement(whole: Result, tiled: Result, lines: Sequence[int]) -> list[float]:
    """For each instance of either answer away from the seams: the best IoU with an instance of the other."""
    far = [
        [row for row, rle in enumerate(one.masks.rle) if not is_near(wider(box_of(rle)), lines)]
        for one in (whole, tiled)
    ]
    first, second = ([dict(rle) for rle in one.masks.rle] for one in (whole, tiled))
    ious = np.asarray(codec.iou(first, second, [False] * len(second)))
    return [*ious[far[0]].max(axis=1).tolist(), *ious[:, far[1]].max(axis=0).tolist()]


def wider(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x - AWAY, y - AWAY, width + 2 * AWAY, height + 2 * AWAY


def main(
    data: Annotated[Path, typer.Option(help="The data set of nuclei.")] = Path("datasets/nuclei"),
    model: str = "nuclei",
    tiles: Annotated[str, typer.Option(help="Sides of the tiles, in pixels.")] = "192,256,400,512",
    overlap: float = 0.2,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = RESULTS / FILE,
) -> None:
    """Segment the mosaics in each way and measure."""
    mosaics = read_mosaics(data)
    side = SIDE * ACROSS
    pixels = round(side * SCALE)
    whole = Predictor(model, tile="off", shorter=pixels, longer=pixels, conf=None, max_detections=LIMIT)
    # a mosaic has the candidates of 16 pictures
    whole.config = whole.config.with_overrides([f"detect.candidates_per_level={CANDIDATES}"])
    answers = [whole(mosaic.array) for mosaic in mosaics]
    everything: Any = lambda box: True  # noqa: E731
    ways = []
    for tile in map(int, tiles.split(",")):
        lines = seams(side, tile, overlap_pixels(tile, overlap))
        predictor = Predictor(model, tile=tile, overlap=overlap, conf=None)
        results = [predictor(mosaic.array) for mosaic in mosaics]
        near: Any = lambda box, lines=lines: is_near(box, lines)  # noqa: E731
        far: Any = lambda box, lines=lines: not is_near(box, lines)  # noqa: E731
        sure = [[one.filter(conf=0.5) for one in some] for some in (answers, results)]
        ious = [iou for pair in zip(*sure, strict=True) for iou in agreement(*pair, lines)]
        matched = [iou for iou in ious if iou >= 0.5]
        ways.append(
            Way(
                tile=tile,
                overlap=overlap,
                count=sum(map(len, sure[1])),
                all=measure(mosaics, results, everything),
                near=measure(mosaics, results, near),
                far=measure(mosaics, results, far),
                whole_near=measure(mosaics, answers, near),
                whole_far=measure(mosaics, answers, far),
                near_objects=sum(near(box_of(rle)) for mosaic in mosaics for rle in mosaic.truth),
                overlap_median=median(matched),
                matched=len(matched) / len(ious),
            )
        )
        print(ways[-1], flush=True)
    found = Seams(
        command=command_line(),
        machine=describe_machine("cpu").cpu,
        mosaics=len(mosaics),
        objects=sum(len(mosaic.truth) for mosaic in mosaics),
        whole_count=sum(len(one.filter(conf=0.5)) for one in answers),
        whole_all=measure(mosaics, answers, everything),
        ways=tuple(ways),
    )
    print(json.dumps({"objects": found.objects, "whole": found.whole_count, "AP": found.whole_all}))
    replace_file(out, (found.model_dump_json(indent=1) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
