"""A picture in, its instances out: the one composition of model, detection and assembly that every command uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.config import SHOWN_SCORE, Config
from condinst.data.image import MAX_PIXELS, convert_image, read_image
from condinst.errors import CondinstError, DataError, UsageError, first_line, out_of_memory
from condinst.inference.instances.classes import choose_labels
from condinst.inference.network import Mode, make_network
from condinst.inference.pipeline import Picture, Pipeline
from condinst.inference.result import Result
from condinst.inference.stream import OnError, Stream, check_stream
from condinst.model.condinst import CondInst
from condinst.weights.folder import load_model

Source = str | Path | bytes | NDArray[np.uint8] | Image.Image
Fetch = Callable[[], Source]
Classes = str | int | Iterable[str | int]


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
            return list(self.stream(source))
        return self.predict_batch([source])[0]

    def predict_batch(self, sources: list[Source]) -> list[Result]:
        """Segment several pictures in one pass through the network, padded to a common size.

        Norms over whole maps count the padding: of pictures that get more of it than alone, scores and masks differ.
        """
        if not sources:
            return []
        start = time.perf_counter()
        pictures = [self._read(source) for source in sources]
        return self._pipeline()(pictures, time.perf_counter() - start)

    def stream(
        self,
        sources: Iterable[Source | Fetch],
        batch: int = 1,
        on_error: OnError[Source | Fetch] = "raise",
        *,
        conf: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Iterator[Result]:
        """Segment any number of pictures: while the network works on one batch, others are read and assembled.

            for result in predictor.stream(paths, on_error="skip"):
                print(result.path, len(result))

        sources: as for a call, or functions that return such a source; the reading thread calls them. The results come
        in the order of the sources. A stream holds a few batches at a time. The pictures of one batch are padded to a
        common size (see `predict_batch`).

        on_error: what happens to a source that cannot be used. "raise" ends the stream with the error, after the
        results of the sources before it. "skip" leaves the source out and gives a Python warning. A function is called
        with the source and the error, in the order of the sources. Any exception of a source becomes the DataError of
        that source: a missing or damaged file, a function that raises, a picture that the memory does not suffice for.

        conf, max_detections, classes (names or labels) and size (shorter side, or shorter and longer side, in pixels)
        replace the predictor's settings for this stream. Raises UsageError for a setting out of range.
        """
        check_stream(batch, on_error)
        pipeline = self._pipeline(conf, max_detections, classes, size)
        return Stream(pipeline, self._read, batch, on_error)(sources)

    def _pipeline(
        self,
        conf: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Pipeline:
        """The network with the predictor's settings, replaced by those that are given. Raises UsageError."""
        shorter, longer = size if isinstance(size, tuple) else (size, None)
        config = _with_settings(self.config, conf, shorter, longer, max_detections, None)
        labels = None if classes is None else choose_labels(classes, self.names)
        return Pipeline(self.network, self.device, config, self.conf if conf is None else conf, labels)

    def _read(self, source: Source | Fetch) -> Picture:
        """Raises DataError for a source that cannot be used, UsageError for one of a wrong type."""
        try:
            return self._decode(source() if callable(source) else source)
        except CondinstError:
            raise
        except Exception as error:  # a function may raise anything, as may a library that reads a damaged file
            reason = "not enough memory" if out_of_memory(error) else first_line(error)
            raise DataError(f"{_name(source)}: cannot be used ({reason})") from error

    def _decode(self, source: Source) -> Picture:
        name = _name(source)
        if isinstance(source, str | Path):
            return Picture(read_image(Path(source), max_pixels=self.max_pixels), Path(source), name)
        if isinstance(source, bytes):
            return Picture(read_image(source, max_pixels=self.max_pixels), None, name)
        if isinstance(source, Image.Image):
            return Picture(convert_image(source, max_pixels=self.max_pixels).pixels, None, name)
        return Picture(_checked(source), None, name)


def _name(source: object) -> str:
    """How errors call a source."""
    if isinstance(source, str | Path):
        return str(source)
    kinds = {bytes: "image bytes", np.ndarray: "image array"}
    if type(source) in kinds:
        return kinds[type(source)]
    return "PIL image" if isinstance(source, Image.Image) else "source function"


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
        if not isinstance(conf, Real) or not 0 <= conf <= 1:
            raise UsageError(f"conf: expected a score from 0 to 1, got {conf!r}")
        # scores may be roots of what the threshold is compared with; a hair less, so that rounding drops none
        threshold = (conf**2 if config.detect.score_root else conf) * (1 - 1e-6)
    settings = {
        "detect.score_threshold": threshold,
        "input.shorter": shorter,
        "input.longer": longer,
        "detect.max_detections": max_detections,
        "detect.nms": nms,
    }
    overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
    return config.with_overrides(overrides) if overrides else config


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
