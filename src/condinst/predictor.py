"""Segment pictures with a loaded model. Every command and the Python functions use `Predictor`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, Unpack, overload

import torch

from condinst.config import Config
from condinst.data.pictures.image import MAX_PIXELS
from condinst.errors import UsageError, first_line, some
from condinst.export.choose import choose
from condinst.export.runtime import open_network
from condinst.inference.forks import check_process
from condinst.inference.instances.classes import choose_labels
from condinst.inference.network import Mode, TorchMode, make_network
from condinst.inference.pipeline import Pipeline
from condinst.inference.result import Result
from condinst.inference.settings import CallSettings, Classes, Size, check_names, sides, with_settings
from condinst.inference.shrinking import note_shrinking
from condinst.inference.stream import OnError, Stream, all_together, check_stream, tell_remarks
from condinst.inference.tiles.run import Journals, Tiles
from condinst.methods.choose import method_of
from condinst.model.instance_network import InstanceNetwork
from condinst.settings.kinds import Range
from condinst.settings.prediction import SHOWN_SCORE
from condinst.sources.expand import Fetch, Source, expand, is_single
from condinst.sources.film import is_live
from condinst.sources.read import Opened, Picture, open_source
from condinst.weights.fetch import digest
from condinst.weights.folder import load_model
from condinst.weights.names import local_file

SHOWN_CLASSES = 5  # classes named in the repr of a predictor


class Predictor:
    """Loads a model once and segments pictures with it.

        predictor = Predictor("nuclei")
        result = predictor("photo.jpg")
        results = predictor(["a.jpg", "b.jpg"], conf=0.7)

    A forked process can use the predictor on the CPU, for example a worker of `multiprocessing` on Linux before Python
    3.14. A forked process computes with one thread, because OpenMP's threads do not survive a fork. For several threads
    in each process, and for CUDA, start the processes with `multiprocessing.get_context("spawn")` and create a
    predictor in each process.

    config: the model's settings with the changes of the constructor. device, mode, conf and max_pixels: the arguments
    of the constructor. file: path of the weights or of the exported program; None for a published name, a repository
    and a model in memory.
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
        mode: Mode | None = None,
        range: Range | str | None = None,
        iou: float | None = None,
        tile: int | str | None = None,
        overlap: float | None = None,
    ) -> None:
        """model: a shipped or published name, a folder, a file, or owner/name on the Hugging Face hub. A file may be a
        program of `condinst export`, such as model.onnx or model.xml.

        device: a torch device; by default "cuda" if available, else "cpu". conf: lowest score to keep, from 0 to 1;
        None applies only the model's own threshold, as evaluation needs. shorter, longer: resize pictures to this
        shorter side and limit the longer side, in pixels. max_detections: maximum number of instances per picture. nms:
        "box", "mask" or "matrix". iou: the NMS removes the lower-scoring of two detections with at least this IoU, from
        0 to 1. max_pixels: reject larger pictures before decoding. mode: "exact" computes in float32; "fast" computes
        in 16 bit if the hardware supports 16 bit, with slightly different scores and borders; "compiled" is like "fast"
        with compiled code, for many pictures of few sizes. "openvino" and "int8" run a program that `condinst export`
        wrote into the model's folder. None takes "openvino" on the CPU if the folder has such a program and OpenVINO is
        installed, and "exact" otherwise. range: the values that become black and white in pictures of
        more than 8 bits, "full", "auto" or (low, high); see `InputConfig`. None keeps the model's setting of shorter,
        longer, max_detections, nms, iou, range, tile and overlap. tile: cut larger pictures into tiles with sides of
        this many pixels and join their instances; "auto" does it where the whole picture would be shrunk too far, "off"
        never. max_detections then limits each tile. overlap: what neighbouring tiles share, as a part of the side or in
        pixels.

        Raises ModelError for a model that cannot be loaded, UsageError for a setting out of range.
        """
        if not isinstance(model, str | os.PathLike):
            kind = type(model).__name__
            raise UsageError(f"model: expected a name, folder or file, got {kind}; Predictor.from_model takes a module")
        choice = choose(model, mode, device)
        if choice.path is None:
            module, config = load_model(model)
        else:
            config = choice.read_config()
        self.file = choice.path or local_file(model)
        self.config = with_settings(config, conf, shorter, longer, max_detections, nms, range, iou, tile, overlap)
        self.device = _device(device if choice.path is None else "cpu")
        self.mode, self.model = choice.mode, str(model)
        if choice.path is None:
            self.network = make_network(module, choice.mode, self.device, config.model.size_divisor)
        else:
            self.network = open_network(choice.path, config, narrow=choice.mode == "fast")
        self.conf = conf
        self.max_pixels = max_pixels

    @classmethod
    def from_model(
        cls, model: InstanceNetwork, config: Config, device: str | None = None, mode: TorchMode = "exact"
    ) -> Self:
        """Create a predictor from a copy of a model in memory. Later changes of `model` do not affect the predictor."""
        predictor = cls.__new__(cls)
        predictor.config, predictor.mode, predictor.model = config, mode, "a model in memory"
        predictor.device, predictor.file = _device(device), None
        predictor.network = make_network(model, mode, predictor.device, config.model.size_divisor)
        predictor.conf, predictor.max_pixels = None, MAX_PIXELS
        return predictor

    @property
    def names(self) -> dict[int, str]:
        """Class name of each label (label → name)."""
        return dict(enumerate(self.config.model.classes))

    def __repr__(self) -> str:
        names = self.config.model.classes
        kinds = f"{len(names)} class{'es' * (len(names) != 1)}: {some(names, SHOWN_CLASSES)}"
        return f"Predictor({self.model!r}, {kinds}, device={self.device}, mode={self.mode})"

    # Type checkers treat a str as one picture. A folder or pattern gives a list; see the docstring.
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
        **settings: Unpack[CallSettings],
    ) -> Result | list[Result]:
        """Segment one picture or many. One picture gives a `Result`, many give a list of `Result`.

            result = predictor("photo.jpg")
            results = predictor(["a.jpg", "b.jpg"], classes="nucleus", conf=0.7)
            results = predictor("folder_of_pictures")

        One picture: the path of a file, an http(s) address, encoded bytes, an open file or BytesIO, a PIL image, an
        array (H, W) or (H, W, 1, 3 or 4) in RGB order, a tensor (C, H, W), or a function that returns one of these.
        Many: a folder, a pattern such as "*.png", "@list.txt" with a source on each line of the text file, a film such
        as "film.mp4" with the extra [video], a list, tuple, generator, a batch (N, H, W, C) or tensor (N, C, H, W).
        Type checkers treat a str as one picture; use `stream` for folders in typed code. The values of arrays and
        tensors run from 0 to 255 for uint8, from 0 to 65 535 for uint16 and from 0 to 1 for floats; for bool, False is
        black and True is white. `range` sets another range.

        conf: lowest score to keep, from 0 to 1. iou: threshold of the NMS, from 0 to 1. max_detections: maximum number
        of instances per picture. classes: names or labels to keep; other classes do not count towards max_detections.
        size: the shorter side of the resized picture, or (shorter, longer), in pixels. range: the values that become
        black and white, for pictures of more than 8 bits. tile, overlap: as in the constructor. These settings apply to
        this call only; None keeps the predictor's setting. batch, on_error: see `stream`.

        Raises DataError for a picture that cannot be used, UsageError for a source of a wrong type or shape and for a
        setting out of range. A Python warning reports an unusual picture, for example a picture with unused range.
        """
        if not is_single(source):
            if isinstance(source, str | os.PathLike) and is_live(os.fspath(source)):
                raise UsageError(f"{source}: a camera or a stream has no end; use predictor.stream")
            return list(self.stream(source, batch, on_error, **settings))
        check_stream(batch, on_error)
        check_names(settings)
        return self._together([source], self._pipeline(**settings))[0]

    predict = __call__  # the name in ultralytics

    def predict_batch(self, sources: Sequence[Source | Fetch]) -> list[Result]:
        """Segment several pictures in one pass through the network, padded to a common size.

        Some norm layers average over the whole padded map. The scores and masks of a padded picture therefore differ
        slightly from those of the same picture alone.
        """
        return self._together(sources, self._pipeline()) if sources else []

    def stream(
        self,
        sources: Source | Fetch | Iterable[object],
        batch: int = 1,
        on_error: OnError = "raise",
        journal: str | Path | None = None,
        on_tile: Callable[[str, int, int], object] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Iterator[Result]:
        """Segment any number of pictures. Other threads read and assemble pictures while the network computes.

            for result in predictor.stream("folder_of_pictures", on_error="skip"):
                print(result.path, len(result))

        sources: the sources that `__call__` accepts; a list may also contain folders, patterns and "@list.txt". The
        reading thread calls a source that is a function. The stream yields the results in the order of the sources and
        keeps a few batches in memory. batch: number of pictures in one pass through the network. The stream pads the
        pictures of a batch to a common size (see `predict_batch`).

        on_error: what to do with a source that cannot be used. "raise" raises the error after the results of the
        earlier sources. "skip" leaves the source out and gives a Python warning. A function is called with the source
        and the error, in the order of the sources. Every exception of a source becomes a DataError: a missing or
        damaged file, a function that raises, a picture that does not fit into memory.

        journal: a folder for the finished tiles of large pictures. If the program ends early, the next call with the
        same folder, picture and settings continues after them. A file is removed when its picture is done. on_tile:
        called with the name of the picture, the number of finished tiles and the number of all its tiles.

        `__call__` describes the other settings. Raises UsageError for a setting out of range.
        """
        check_stream(batch, on_error)
        check_names(settings)
        pipeline = self._pipeline(**settings)
        journals = None if journal is None else Journals(Path(journal), self._identity())
        tiles = Tiles(pipeline, batch, journals, on_tile)
        return Stream(pipeline, self._reader(pipeline), batch, on_error, tiles)(expand(sources))

    def _pipeline(
        self,
        conf: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        size: Size | None = None,
        range: Range | str | None = None,
        tile: int | str | None = None,
        overlap: float | None = None,
    ) -> Pipeline:
        """Return the network with the predictor's settings and the changes of a call. Raises UsageError."""
        check_process(self.device)
        config = with_settings(self.config, conf, *sides(size), max_detections, None, range, iou, tile, overlap)
        labels = None if classes is None else choose_labels(classes, self.names)
        return Pipeline(
            self.network, self.device, config, method_of(config.model), self.conf if conf is None else conf, labels
        )

    def _together(self, sources: Sequence[Any], pipeline: Pipeline) -> list[Result]:
        start = time.perf_counter()
        read = self._reader(pipeline)
        pictures = [read(source) for source in sources]
        tiles = Tiles(pipeline)
        if any(tiles.needed(picture) for picture in pictures):
            results = [
                all_together(pipeline, [picture], 0)[0]
                if isinstance(picture, Picture) and not tiles.needed(picture)
                else tiles.segment(picture)
                for picture in pictures
            ]
        else:
            whole = [picture for picture in pictures if isinstance(picture, Picture)]
            results = all_together(pipeline, whole, time.perf_counter() - start)
        for picture in pictures:
            tell_remarks(picture, stacklevel=4)  # the line of the user that calls the predictor
        return results

    def _identity(self) -> str:
        """Text on the weights and how they are computed with."""
        model = digest(self.file) if self.file else f"{self.model} {id(self)}"
        return f"{model} {self.mode} {self.device.type}"

    def _reader(self, pipeline: Pipeline) -> Callable[[Any], Opened]:
        size, tiles = pipeline.config.input, Tiles(pipeline)

        def read(source: Any) -> Opened:
            picture = open_source(source, tiles.cuts, self.max_pixels, size.range)
            if tiles.needed(picture):
                return tiles.with_remark(picture)
            assert isinstance(picture, Picture)
            return note_shrinking(picture, size)

        return read


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on a device without values (meta)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        raise UsageError(f"device '{name}' cannot be used ({reason}); try cpu, or leave it out") from None
    return device
