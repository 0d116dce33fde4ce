"""A picture in, its instances out: the one composition of model, detection and assembly that every door uses."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.config import SHOWN_SCORE, Config
from condinst.data.batch import make_images
from condinst.data.image import MAX_PIXELS, convert_image, read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.errors import DataError, UsageError, first_line
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect
from condinst.inference.network import Mode, make_network
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.structures import Detections, Images, NetworkOutput
from condinst.weights.folder import load_model

Source = str | Path | bytes | NDArray[np.uint8] | Image.Image
Item = TypeVar("Item")
AHEAD = 2  # batches read or assembled while the network works on another


class Picture(NamedTuple):
    """A decoded source. array: (H, W, 3) uint8 RGB. path: where it can be read again, if it came from a file."""

    array: NDArray[np.uint8]
    path: Path | None


class Prepared(NamedTuple):
    """A batch ready for the network. seconds: what reading and resizing took."""

    pictures: tuple[Picture, ...]
    images: Images
    seconds: float


class Seen(NamedTuple):
    """A batch the network has seen. seconds: what it took."""

    output: NetworkOutput
    found: list[Detections]
    seconds: float


class Predictor:
    """Loads a model once and segments pictures with it. `config` holds every setting in force, overrides included."""

    def __init__(
        self,
        model: str | Path = "nuclei",
        device: str | None = None,
        conf: float | None = SHOWN_SCORE,
        shorter: int | None = None,
        longer: int | None = None,
        max_detections: int | None = None,
        nms: str | None = None,
        max_pixels: int = MAX_PIXELS,
        mode: Mode = "exact",
    ) -> None:
        """model: a shipped or published name, a folder, a file, or owner/name on the Hugging Face hub.

        device: by default CUDA where there is one, else CPU. conf: lowest score kept; None keeps all that the model's
        own threshold lets through, as evaluation wants. The rest replaces the model's own settings. shorter, longer:
        pixels, the size the network sees. nms: "box", "mask" or "matrix". max_pixels: larger files are refused before
        decoding. mode: "exact" computes in float32 what was trained; "fast" in 16 bit where the hardware does so, at
        slightly other scores and borders; "compiled" is fast with compiled code, for many images of few sizes.
        Raises ModelError for a model that cannot be loaded, UsageError for a setting out of range.
        """
        network, config = load_model(model)
        self._set_up(network, _with_settings(config, conf, shorter, longer, max_detections, nms), device, mode)
        self.conf = conf
        self.max_pixels = max_pixels

    @classmethod
    def from_model(cls, model: CondInst, config: Config, device: str | None = None, mode: Mode = "exact") -> Self:
        """Around a copy of a model already in memory, as it is now."""
        predictor = cls.__new__(cls)
        predictor._set_up(model, config, device, mode)
        predictor.conf, predictor.max_pixels = None, MAX_PIXELS
        return predictor

    def _set_up(self, model: CondInst, config: Config, device: str | None, mode: str) -> None:
        self.config = config
        self.device = _device(device)
        self.network = make_network(model, mode, self.device, config.model.size_divisor)

    @property
    def names(self) -> dict[int, str]:
        """Class names by label."""
        return dict(enumerate(self.config.model.classes))

    @overload
    def __call__(self, source: Source) -> Result: ...
    @overload
    def __call__(self, source: list[Source]) -> list[Result]: ...
    def __call__(self, source: Source | list[Source]) -> Result | list[Result]:
        """Segment a path, encoded bytes, (H, W, 3) uint8 RGB array or PIL image; for a list, one after the other.

        Raises DataError for what is not a usable image, UsageError for an array of another shape or type.
        """
        if isinstance(source, list):
            return [_or_raise(outcome) for outcome in self.stream(source)]
        return self.predict_batch([source])[0]

    def predict_batch(self, sources: list[Source]) -> list[Result]:
        """Segment several pictures in one pass through the network, padded to a common size.

        Norms over whole maps count the padding: of pictures that get more of it than alone, scores and masks differ.
        """
        if not sources:
            return []
        prepared = self._prepare([self._read(source) for source in sources], time.perf_counter())
        return self._assemble(prepared, self._see(prepared))

    def stream(self, sources: Iterable[Source | Callable[[], Source]], batch: int = 1) -> Iterator[Result | DataError]:
        """Segment any number of pictures: while the network sees one batch, others are read and assembled.

        A source may be a function that fetches one; it runs in the reading thread. For each source, in order, its
        result or the DataError that tells why there is none. At most a few batches are held at a time; the pictures
        of one are padded to a common size (see `predict_batch`).
        """
        if batch < 1:
            raise UsageError(f"batch: expected at least 1, got {batch}")
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            waiting = _batches(sources, batch)
            reading = deque(reader.submit(self._load, some) for some in itertools.islice(waiting, AHEAD))
            writing: deque[Future[list[Result | DataError]]] = deque()
            while reading:
                outcomes, prepared = reading.popleft().result()
                reading.extend(reader.submit(self._load, some) for some in itertools.islice(waiting, 1))
                seen = self._see(prepared) if prepared else None
                writing.append(writer.submit(self._settle, outcomes, prepared, seen))
                while len(writing) > (AHEAD - 1 if reading else 0):
                    yield from writing.popleft().result()

    def _load(
        self, sources: tuple[Source | Callable[[], Source], ...]
    ) -> tuple[list[DataError | None], Prepared | None]:
        """What is wrong with each source, and the batch of those that are right."""
        start = time.perf_counter()
        errors: list[DataError | None] = []
        pictures = []
        for source in sources:
            try:
                pictures.append(self._read(source() if callable(source) else source))
                errors.append(None)
            except DataError as error:
                errors.append(error)
        return errors, self._prepare(pictures, start) if pictures else None

    def _settle(
        self, errors: list[DataError | None], prepared: Prepared | None, seen: Seen | None
    ) -> list[Result | DataError]:
        results = iter(self._assemble(prepared, seen) if prepared and seen else [])
        return [next(results) if error is None else error for error in errors]

    def _read(self, source: Source) -> Picture:
        if isinstance(source, str | Path):
            return Picture(read_image(Path(source), max_pixels=self.max_pixels), Path(source))
        if isinstance(source, bytes):
            return Picture(read_image(source, max_pixels=self.max_pixels), None)
        if isinstance(source, Image.Image):
            return Picture(convert_image(source, max_pixels=self.max_pixels), None)
        return Picture(_checked(source), None)

    def _prepare(self, pictures: list[Picture], start: float) -> Prepared:
        """Resize, normalise and pad; `start` is when reading began."""
        model, size = self.config.model, self.config.input
        arrays, originals = [], []
        for array, _ in pictures:
            height, width = array.shape[:2]
            arrays.append(resize_image(array, *resize_shape(height, width, size.shorter, size.longer)))
            originals.append((height, width))
        divisor = self.network.divisor
        images = make_images(arrays, originals, model.pixel_mean, model.pixel_std, model.channel_order, divisor)
        return Prepared(tuple(pictures), images, time.perf_counter() - start)

    @torch.inference_mode()
    def _see(self, prepared: Prepared) -> Seen:
        start = time.perf_counter()
        output = self.network(prepared.images.tensor.to(self.device))
        found = detect(output, self.config.model, self.config.detect)
        return Seen(output, found, time.perf_counter() - start)

    @torch.inference_mode()
    def _assemble(self, prepared: Prepared, seen: Seen) -> list[Result]:
        start = time.perf_counter()
        results = assemble(seen.output, seen.found, prepared.images, self.config.model, self.config.detect)
        stages = {
            "preprocess": prepared.seconds,
            "inference": seen.seconds,
            "postprocess": time.perf_counter() - start,
        }
        speed = {stage: 1000 * seconds / len(results) for stage, seconds in stages.items()}
        return [
            self._finish(result, picture, speed) for result, picture in zip(results, prepared.pictures, strict=True)
        ]

    def _finish(self, result: Result, picture: Picture, speed: dict[str, float]) -> Result:
        # the detector's threshold may mean another number than the score (see DetectConfig), so the last word is here
        shown = result if self.conf is None else result[result.boxes.conf >= self.conf]
        return shown.of(picture.path, picture.array if picture.path is None else None, speed)


def _batches(sources: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    items = iter(sources)
    while some := tuple(itertools.islice(items, size)):
        yield some


def _or_raise(outcome: Result | DataError) -> Result:
    if isinstance(outcome, DataError):
        raise outcome
    return outcome


def _with_settings(
    config: Config,
    conf: float | None,
    shorter: int | None,
    longer: int | None,
    max_detections: int | None,
    nms: str | None,
) -> Config:
    """The model's configuration with the caller's numbers; those that are None stay. Raises UsageError."""
    threshold = None
    if conf is not None:
        if not 0 <= conf <= 1:
            raise UsageError(f"conf: expected a score from 0 to 1, got {conf}")
        # scores may be roots of what the threshold is compared with; a hair less, so that rounding drops none
        threshold = (conf**2 if config.detect.score_root else conf) * (1 - 1e-6)
    settings = {
        "detect.score_threshold": threshold,
        "input.shorter": shorter,
        "input.longer": longer,
        "detect.max_detections": max_detections,
        "detect.nms": nms,
    }
    return config.with_overrides([f"{key}={value}" for key, value in settings.items() if value is not None])


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device that holds no numbers (meta) fails, too
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        raise UsageError(f"device '{name}' cannot be used ({reason}); try cpu, or leave it out") from None
    return device


def _checked(array: Any) -> NDArray[np.uint8]:
    if not isinstance(array, np.ndarray):
        raise UsageError(f"image: expected a path, bytes, array or PIL image, got {type(array).__name__}")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(f"image array: expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}")
    return array
