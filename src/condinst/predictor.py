"""Pictures in, their instances out: the one composition of reading, network and assembly that every command uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack, overload

import torch

from condinst.config import SHOWN_SCORE, Config, Range, check_range
from condinst.data.image import MAX_PIXELS
from condinst.errors import UsageError, first_line, some
from condinst.inference.forks import check_process
from condinst.inference.instances.classes import choose_labels
from condinst.inference.network import Mode, make_network
from condinst.inference.pipeline import Pipeline
from condinst.inference.result import Result
from condinst.inference.shrinking import note_shrinking
from condinst.inference.stream import OnError, Stream, all_together, check_stream, tell_remarks
from condinst.model.condinst import CondInst
from condinst.sources.expand import Fetch, Source, expand, is_single
from condinst.sources.read import Picture, read_source
from condinst.weights.folder import load_model

Classes = str | int | Iterable[str | int]
Size = int | tuple[int, int]
SHOWN_CLASSES = 5  # in the text of a predictor


class CallSettings(TypedDict, total=False):
    """What a call may change: `Predictor.__call__` describes each."""

    conf: float | None
    max_detections: int | None
    classes: Classes | None
    size: Size | None
    range: Range | str | None


class Predictor:
    """Loads a model once and segments pictures with it.

        predictor = Predictor("nuclei")
        result = predictor("photo.jpg")
        results = predictor(["a.jpg", "b.jpg"], conf=0.7)

    Processes that are forked from this one, such as the workers of `multiprocessing` on Linux before Python 3.14, may
    use the predictor on the CPU. They compute with one thread, as OpenMP's threads do not survive a fork. For several
    threads in each process, and for CUDA, start the processes with `multiprocessing.get_context("spawn")` and make a
    predictor in each.

    config: every setting in force, those of the constructor included. device, mode, conf and max_pixels are as given.
    """

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
        range: Range | str | None = None,
    ) -> None:
        """model: a shipped or published name, a folder, a file, or owner/name on the Hugging Face hub.

        device: by default CUDA where there is one, else CPU. conf: lowest score kept; None keeps all that the model's
        own threshold lets through, as evaluation wants. The rest replaces the model's own settings. shorter, longer:
        pixels, the size the network sees. nms: "box", "mask" or "matrix". max_pixels: larger files are refused before
        decoding. mode: "exact" computes in float32 what was trained; "fast" in 16 bit where the hardware does so, at
        slightly other scores and borders; "compiled" is fast with compiled code, for many images of few sizes. range:
        which values become black and white in pictures of more than 8 bits, "full", "auto" or (low, high); see
        `InputConfig`. Raises ModelError for a model that cannot be loaded, UsageError for a setting out of range.
        """
        if not isinstance(model, str | os.PathLike):
            kind = type(model).__name__
            raise UsageError(f"model: expected a name, folder or file, got {kind}; Predictor.from_model takes a module")
        network, config = load_model(model)
        config = _with_settings(config, conf, shorter, longer, max_detections, nms, range)
        self._set_up(network, config, device, mode, str(model))
        self.conf = conf
        self.max_pixels = max_pixels

    @classmethod
    def from_model(cls, model: CondInst, config: Config, device: str | None = None, mode: Mode = "exact") -> Self:
        """Around a copy of a model already in memory, as it is now."""
        predictor = cls.__new__(cls)
        predictor._set_up(model, config, device, mode, "a model in memory")
        predictor.conf, predictor.max_pixels = None, MAX_PIXELS
        return predictor

    def _set_up(self, model: CondInst, config: Config, device: str | None, mode: Mode, name: str) -> None:
        self.config, self.mode, self.model = config, mode, name
        self.device = _device(device)
        self.network = make_network(model, mode, self.device, config.model.size_divisor)

    @property
    def names(self) -> dict[int, str]:
        """Class names by label."""
        return dict(enumerate(self.config.model.classes))

    def __repr__(self) -> str:
        names = self.config.model.classes
        kinds = f"{len(names)} class{'es' * (len(names) != 1)}: {some(names, SHOWN_CLASSES)}"
        return f"Predictor({self.model!r}, {kinds}, device={self.device}, mode={self.mode})"

    # A text is typed as one picture; of a folder or pattern the call returns a list, see the docstring.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is an iterable, too
        self, source: Source | Fetch, batch: int = ..., on_error: OnError = ..., **settings: Unpack[CallSettings]
    ) -> Result: ...
    @overload
    def __call__(
        self, source: Iterable[object], batch: int = ..., on_error: OnError = ..., **settings: Unpack[CallSettings]
    ) -> list[Result]: ...
    def __call__(
        self,
        source: Source | Fetch | Iterable[object],
        batch: int = 1,
        on_error: OnError = "raise",
        *,
        conf: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: Size | None = None,
        range: Range | str | None = None,
    ) -> Result | list[Result]:
        """Segment one picture, which gives a `Result`, or many, which give a list.

            result = predictor("photo.jpg")
            results = predictor(["a.jpg", "b.jpg"], classes="nucleus", conf=0.7)
            results = predictor("folder_of_pictures")

        One picture: the path of a file, an http(s) address, encoded bytes, an open file or BytesIO, a PIL image, an
        array (H, W) or (H, W, 1, 3 or 4) in RGB order, a tensor (C, H, W), or a function that returns one of these.
        Many: a folder, a pattern such as "*.png", a list, tuple, generator, a batch (N, H, W, C) or tensor
        (N, C, H, W). For type checkers a text is one picture; `stream` is typed for folders. Arrays and tensors: uint8
        is taken as it is, bool is black and white, uint16 is 0 to 65 535, floats are 0 to 1, and `range` states
        another range.

        conf: lowest score kept. max_detections: instances kept in a picture. classes: names or labels; others take no
        place among the detections. size: the shorter side that the network sees, or (shorter, longer), in pixels.
        range: the values that become black and white, for pictures of more than 8 bits. Each replaces the predictor's
        setting for this call; None leaves the setting as it is. batch, on_error: for many pictures, see `stream`.

        Raises DataError for a picture that cannot be used, UsageError for a source of a wrong type or shape and for a
        setting out of range. What is odd in a picture, such as unused range, gives a Python warning.
        """
        if not is_single(source):
            return list(
                self.stream(
                    source,
                    batch,
                    on_error,
                    conf=conf,
                    max_detections=max_detections,
                    classes=classes,
                    size=size,
                    range=range,
                )
            )
        check_stream(batch, on_error)
        return self._together([source], self._pipeline(conf, max_detections, classes, size, range))[0]

    def predict_batch(self, sources: Sequence[Source | Fetch]) -> list[Result]:
        """Segment several pictures in one pass through the network, padded to a common size.

        Norms over whole maps count the padding: of pictures that get more of it than alone, scores and masks differ.
        """
        return self._together(sources, self._pipeline()) if sources else []

    def stream(
        self,
        sources: Source | Fetch | Iterable[object],
        batch: int = 1,
        on_error: OnError = "raise",
        *,
        conf: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: Size | None = None,
        range: Range | str | None = None,
    ) -> Iterator[Result]:
        """Segment any number of pictures: while the network works on one batch, others are read and assembled.

            for result in predictor.stream("folder_of_pictures", on_error="skip"):
                print(result.path, len(result))

        sources: whatever a call takes, folders and patterns inside a list too. The reading thread calls functions. The
        results come in the order of the sources. A stream holds a few batches at a time. The pictures of one batch are
        padded to a common size (see `predict_batch`).

        on_error: what happens to a source that cannot be used. "raise" ends the stream with the error, after the
        results of the sources before it. "skip" leaves the source out and gives a Python warning. A function is called
        with the source and the error, in the order of the sources. Any exception of a source becomes the DataError of
        that source: a missing or damaged file, a function that raises, a picture that the memory does not suffice for.

        The other settings are those of a call. Raises UsageError for a setting out of range.
        """
        check_stream(batch, on_error)
        pipeline = self._pipeline(conf, max_detections, classes, size, range)
        return Stream(pipeline, self._reader(pipeline), batch, on_error)(expand(sources))

    def _pipeline(
        self,
        conf: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: Size | None = None,
        range: Range | str | None = None,
    ) -> Pipeline:
        """The network with the predictor's settings, replaced by those that are given. Raises UsageError."""
        check_process(self.device)
        shorter, longer = size if isinstance(size, tuple) else (size, None)
        config = _with_settings(self.config, conf, shorter, longer, max_detections, None, range)
        labels = None if classes is None else choose_labels(classes, self.names)
        return Pipeline(self.network, self.device, config, self.conf if conf is None else conf, labels)

    def _together(self, sources: Sequence[Any], pipeline: Pipeline) -> list[Result]:
        start = time.perf_counter()
        read = self._reader(pipeline)
        pictures = [read(source) for source in sources]
        results = all_together(pipeline, pictures, time.perf_counter() - start)
        for picture in pictures:
            tell_remarks(picture, stacklevel=4)  # the line that calls the predictor
        return results

    def _reader(self, pipeline: Pipeline) -> Callable[[Any], Picture]:
        size = pipeline.config.input
        read = partial(read_source, max_pixels=self.max_pixels, range=size.range)
        return lambda source: note_shrinking(read(source), size.shorter, size.longer)


def _with_settings(
    config: Config,
    conf: float | None,
    shorter: int | None,
    longer: int | None,
    max_detections: int | None,
    nms: str | None,
    range: Range | str | None,
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
        "input.range": None if range is None else _as_yaml(check_range(range)),
    }
    overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
    return config.with_overrides(overrides) if overrides else config


def _as_yaml(range: Range) -> str:
    return range if isinstance(range, str) else str(list(range))


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
