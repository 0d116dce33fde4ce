"""Segment the tiles of a picture and join their instances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from condinst.data.pictures.values import Remark
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.pipeline import Pipeline
from condinst.inference.result import Result
from condinst.inference.stream import Stream
from condinst.inference.tiles.choose import Tiling, choose_tiling, tile_config
from condinst.inference.tiles.merge import Find, Merger
from condinst.inference.tiles.plan import Window
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode
from condinst.sources.read import Picture

MARGIN = 4  # pixels of the network's input: a mask that ends this close to the border of a tile may be cut there


@dataclass(frozen=True)
class Tiles:
    """Segments large pictures in tiles. batch: windows in one pass through the network."""

    pipeline: Pipeline
    batch: int = 1

    def needed(self, picture: Picture) -> bool:
        """Whether the settings cut the picture into tiles."""
        return self._plan(picture) is not None

    def segment(self, picture: Picture) -> Result:
        """The instances of the whole picture, best first. The time for each stage is the sum over the tiles.

        Raises CondinstError where a tile cannot be segmented, for example for lack of memory.
        """
        tiling = self._plan(picture)
        assert tiling is not None
        height, width = picture.array.shape[:2]
        found, speed = self._finds(picture, tiling)
        found.sort(key=lambda one: -one[0].score)
        boxes = torch.tensor([find.box for find, _ in found], dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([find.score for find, _ in found], dtype=torch.float32)
        labels = torch.tensor([find.label for find, _ in found], dtype=torch.int64)
        names = dict(enumerate(self.pipeline.config.model.classes))
        result = Result(
            Boxes(boxes, scores, labels, (height, width)),
            Masks(tuple(rle for _, rle in found), (height, width)),
            names,
            (height, width),
        )
        image = picture.array if picture.path is None else None
        notes = tuple(str(remark) for remark in picture.remarks)
        return result.of(picture.path, image, speed, picture.name, notes, picture.reading)

    def with_remark(self, picture: Picture) -> Picture:
        """The picture with a remark on its tiles where the user did not ask for them."""
        tiling = self._plan(picture)
        if tiling is None or not tiling.reason:
            return picture
        count, tile = tiling.total, tiling.tile
        message = f"{tiling.reason}condinst cuts it into {count} tiles of {tile}×{tile} pixels"
        remark = Remark(
            "tiled-picture", message, "--tile off (tile='off' in Python) shows it to the network as a whole"
        )
        return picture._replace(remarks=(*picture.remarks, remark))

    def _plan(self, picture: Picture) -> Tiling | None:
        return choose_tiling(picture.array.shape[0], picture.array.shape[1], self.pipeline.config.input)

    def _finds(self, picture: Picture, tiling: Tiling) -> tuple[list[tuple[Find, Rle]], dict[str, float]]:
        """The instances of the picture with their masks, in no order, and the milliseconds for each stage.

        The bitmaps of instances that no further tile can see are encoded at once, so the memory grows with the width
        of the picture and the number of instances.
        """
        height, width = picture.array.shape[:2]
        pipeline = replace(self.pipeline, config=tile_config(self.pipeline.config, tiling))
        merger = Merger((height, width), max(2, math.ceil(MARGIN / (tiling.scale or _scale(pipeline, tiling)))))
        done: list[tuple[Find, Rle]] = []
        speed: dict[str, float] = {}

        def keep(finds: Iterator[Find]) -> None:
            for find in finds:
                rle = encode(find.region, height, width)
                done.append((find._replace(region=Region(find.region.bitmap[:0, :0], 0, 0)), rle))

        def read(window: Window) -> Picture:
            part = picture.array[window.y : window.bottom, window.x : window.right]
            return Picture(part, None, picture.name, (), picture.reading)

        results = Stream(pipeline, read, self.batch, "raise")(window for row in tiling.rows for window in row)
        for index, row in enumerate(tiling.rows):
            for window in row:
                result = next(results)
                merger.add(window, list(_as_finds(result, window)))
                speed = {stage: speed.get(stage, 0) + value for stage, value in result.speed.items()}
            following = tiling.rows[index + 1][0].y if index + 1 < len(tiling.rows) else None
            keep(merger.close(following))
        return done, speed


def _scale(pipeline: Pipeline, tiling: Tiling) -> float:
    """The factor from a tile to the network's input, by the model's usual size of pictures."""
    window = tiling.rows[0][0]
    size = pipeline.config.input
    return min(size.shorter / min(window.width, window.height), size.longer / max(window.width, window.height))


def _as_finds(result: Result, window: Window) -> Iterator[Find]:
    """The instances of a window in pixels of the picture."""
    boxes = result.boxes.xyxy + torch.tensor([window.x, window.y, window.x, window.y])
    rows = zip(boxes.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), result.masks.rle, strict=True)
    for (x0, y0, x1, y1), score, label, rle in rows:
        bitmap, x, y = decode_region(rle)
        yield Find(Region(bitmap, x + window.x, y + window.y), (x0, y0, x1, y1), score, label)
