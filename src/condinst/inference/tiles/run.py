"""Segment the tiles of a picture and join their instances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch

from condinst.data.pictures.values import Remark
from condinst.errors import TooLargeError
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.pipeline import Pipeline
from condinst.inference.result import Result
from condinst.inference.stream import Stream
from condinst.inference.tiles.choose import Tiling, choose_tiling, tile_config
from condinst.inference.tiles.journal import TileJournal
from condinst.inference.tiles.merge import Find, Merger
from condinst.inference.tiles.plan import Window
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode
from condinst.sources.read import Opened, Picture

LARGEST = 2**32 - 1  # pixels of a picture: the run lengths of COCO are 32-bit numbers
MARGIN = 4  # pixels of the network's input: a mask that ends this close to the border of a tile may be cut there


@dataclass(frozen=True)
class Journals:
    """Where the finished tiles of pictures are kept. model: text on the weights, which the tiles depend on."""

    folder: Path
    model: str

    def of(self, picture: Opened, pipeline: Pipeline) -> TileJournal | None:
        """The journal of a picture, or None for a picture without a file."""
        if picture.path is None:
            return None
        state = picture.path.stat()
        place = f"{picture.path.resolve()} {picture.reading}"
        settings = pipeline.config.model_dump_json(), pipeline.conf, pipeline.labels
        key = f"{place} {state.st_size} {state.st_mtime_ns} {settings} {self.model}"
        return TileJournal(self.folder / f"{sha256(place.encode()).hexdigest()[:16]}.jsonl", key)


@dataclass(frozen=True)
class Tiles:
    """Segments large pictures in tiles.

    batch: windows in one pass through the network. journals: where finished tiles are kept until the picture is done,
    or None. on_tile: called with the name of the picture, the number of finished tiles and of all tiles.
    """

    pipeline: Pipeline
    batch: int = 1
    journals: Journals | None = None
    on_tile: Callable[[str, int, int], object] | None = None

    def needed(self, picture: Opened) -> bool:
        """Whether the settings cut the picture into tiles."""
        return self.cuts(*picture.size)

    def cuts(self, height: int, width: int) -> bool:
        """Whether the settings cut a picture of (height, width) pixels into tiles."""
        return choose_tiling(height, width, self.pipeline.config.input) is not None

    def segment(self, picture: Opened) -> Result:
        """The instances of the whole picture, best first. The time for each stage is the sum over the tiles.

        Raises CondinstError where a tile cannot be read or segmented, for example for lack of memory. Finished tiles
        stay in the journal then.
        """
        tiling = self._plan(picture)
        assert tiling is not None
        height, width = picture.size
        if height * width > LARGEST:
            raise TooLargeError(
                f"{picture.name}: {width}×{height} pixels; masks of a picture hold at most {LARGEST:,} pixels, so cut "
                "the file into several"
            )
        journal = None if self.journals is None else self.journals.of(picture, self.pipeline)
        with journal or nullcontext(), nullcontext() if isinstance(picture, Picture) else closing(picture):
            found, speed = self._finds(picture, tiling, journal)
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
        if journal is not None:
            journal.remove()
        image = picture.array if isinstance(picture, Picture) and picture.path is None else None
        notes = tuple(str(remark) for remark in picture.remarks)
        return result.of(picture.path, image, speed, picture.name, notes, picture.reading)

    def with_remark(self, picture: Opened) -> Opened:
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

    def _plan(self, picture: Opened) -> Tiling | None:
        return choose_tiling(*picture.size, self.pipeline.config.input)

    def _finds(
        self, picture: Opened, tiling: Tiling, journal: TileJournal | None
    ) -> tuple[list[tuple[Find, Rle]], dict[str, float]]:
        """The instances of the picture with their masks, in no order, and the milliseconds for each stage.

        The bitmaps of instances that no further tile can see are encoded at once, so the memory grows with the width
        of the picture and the number of instances.
        """
        height, width = picture.size
        pipeline = replace(self.pipeline, config=tile_config(self.pipeline.config, tiling))
        merger = Merger((height, width), max(2, math.ceil(MARGIN / (tiling.scale or _scale(pipeline, tiling)))))
        done: list[tuple[Find, Rle]] = []
        speed: dict[str, float] = {}

        def keep(finds: Iterator[Find]) -> None:
            for find in finds:
                rle = encode(find.region, height, width)
                done.append((find._replace(region=Region(find.region.bitmap[:0, :0], 0, 0)), rle))

        def read(window: Window) -> Picture:
            part = picture.part(window.x, window.y, window.right, window.bottom)
            return Picture(part, None, picture.name, (), picture.reading)

        windows = [window for row in tiling.rows for window in row]
        earlier = iter(()) if journal is None else journal.finished()
        finished = 0
        results: Iterator[Result] | None = None

        def finds_of(window: Window) -> list[Find]:
            nonlocal results, speed
            if results is None:
                known = next(earlier, None)
                if known is not None:
                    return known
                results = Stream(pipeline, read, self.batch, "raise")(windows[finished:])
            result = next(results)
            speed = {stage: speed.get(stage, 0) + value for stage, value in result.speed.items()}
            finds = list(_as_finds(result, window))
            if journal is not None:
                journal.add(finds)
            return finds

        for index, row in enumerate(tiling.rows):
            for window in row:
                merger.add(window, finds_of(window))
                finished += 1
                if self.on_tile is not None:
                    self.on_tile(picture.name, finished, tiling.total)
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
