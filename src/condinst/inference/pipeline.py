"""From decoded pictures to results in three stages: prepare, forward and assemble. Each may run in its own thread."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.transforms import input_shape, resize_image
from condinst.inference.assemble import assemble
from condinst.inference.network import Network
from condinst.inference.result import Result
from condinst.memory import free_memory
from condinst.method import Method
from condinst.sources.read import Picture
from condinst.structures import Detections, Images

# Of the padded batch, for the maps that the network holds at a time; the nuclei model takes 160 to 200
BYTES_PER_PIXEL = 150
SMALL = 8_000_000  # pixels of a batch for which the free memory is not asked


class Prepared(NamedTuple):
    """A batch that is ready for the network. seconds: the time for reading, resizing and padding."""

    pictures: tuple[Picture, ...]
    images: Images
    seconds: float


class Seen(NamedTuple):
    """A batch after the network. output: of the method. seconds: the time for the network and the detection."""

    output: Any
    found: list[Detections]
    seconds: float


@dataclass(frozen=True)
class Pipeline:
    """The network with the settings of one call.

    method: the parts that find and draw the instances. conf: lowest score of a result, or None for no limit. labels:
    the classes of a result, or None for all.
    """

    network: Network
    device: torch.device
    config: Config
    method: Method[Any, Any]
    conf: float | None = None
    labels: tuple[int, ...] | None = None

    def __call__(self, pictures: Sequence[Picture], reading: float = 0) -> list[Result]:
        """The results of one batch. reading: the seconds that reading the pictures took."""
        prepared = self.prepare(pictures, reading)
        return self.assemble(prepared, self.forward(prepared))

    def prepare(self, pictures: Sequence[Picture], reading: float = 0) -> Prepared:
        """Resize, normalise and pad pictures to one size. reading: the seconds that reading the pictures took.

        Raises MemoryError where the network would need more memory for the batch than this machine has free.
        """
        start = time.perf_counter()
        model, size = self.config.model, self.config.input
        originals = [(array.shape[0], array.shape[1]) for array, *_ in pictures]
        shapes = [input_shape(*original, size) for original in originals]
        divisor = self.network.divisor
        self._check_memory([*shapes, (size.longer, size.longer)] if size.letterbox else shapes, len(shapes), divisor)
        arrays = [
            resize_image(array, *shape, size.resampling) for (array, *_), shape in zip(pictures, shapes, strict=True)
        ]
        look = model.pixel_mean, model.pixel_std, model.channel_order, divisor, model.pad_value
        images = make_images(arrays, originals, *look, size.longer if size.letterbox else 0)
        return Prepared(tuple(pictures), images, reading + time.perf_counter() - start)

    @torch.inference_mode()
    def forward(self, prepared: Prepared) -> Seen:
        """Run the network and detect the instances of each picture."""
        start = time.perf_counter()
        output = self.network(prepared.images.tensor.to(self.device))
        found = self.method.detect(output, self.config.model, self.config.detect, self.labels)
        return Seen(output, found, time.perf_counter() - start)

    @torch.inference_mode()
    def assemble(self, prepared: Prepared, seen: Seen) -> list[Result]:
        """Compute the masks in pixels of the original pictures."""
        start = time.perf_counter()
        results = assemble(seen.output, seen.found, prepared.images, self.method.draw, self.config)
        stages = {
            "preprocess": prepared.seconds,
            "inference": seen.seconds,
            "postprocess": time.perf_counter() - start,
        }
        speed = {stage: 1000 * seconds / len(results) for stage, seconds in stages.items()}
        return [
            self._finish(result, picture, speed) for result, picture in zip(results, prepared.pictures, strict=True)
        ]

    def _check_memory(self, shapes: list[tuple[int, int]], count: int, divisor: int) -> None:
        """Ask before the work begins: Linux ends programs that take more memory than there is."""
        height, width = (math.ceil(max(sides) / divisor) * divisor for sides in zip(*shapes, strict=True))
        pixels = count * height * width
        if self.device.type == "cpu" and pixels > SMALL and pixels * BYTES_PER_PIXEL > free_memory():
            raise MemoryError(f"not enough memory for {width}×{height} pixels")

    def _finish(self, result: Result, picture: Picture, speed: dict[str, float]) -> Result:
        # detection may compare another number with its threshold (see DetectConfig), so `conf` is applied here
        shown = result if self.conf is None else result[result.boxes.conf >= self.conf]
        if self.labels is not None:  # with a threshold of 0, Matrix NMS keeps scores of 0
            shown = shown[torch.isin(shown.boxes.cls, torch.tensor(self.labels, dtype=torch.int64))]
        image = picture.array if picture.path is None else None
        notes = tuple(str(remark) for remark in picture.remarks)
        return shown.of(picture.path, image, speed, picture.name, notes, picture.reading)
