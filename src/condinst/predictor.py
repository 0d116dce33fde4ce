"""A picture in, its instances out: the one composition of model, detection and assembly that every door uses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.config import SHOWN_SCORE, Config
from condinst.data.batch import make_images
from condinst.data.image import MAX_PIXELS, convert_image, read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.errors import UsageError
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.structures import Images
from condinst.weights.folder import load_model

Source = str | Path | bytes | NDArray[np.uint8] | Image.Image


class Picture(NamedTuple):
    """A decoded source. array: (H, W, 3) uint8 RGB. path: where it can be read again, if it came from a file."""

    array: NDArray[np.uint8]
    path: Path | None


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
    ) -> None:
        """model: a shipped name, a folder or a .safetensors file. device: by default CUDA where there is one, else CPU.

        conf: lowest score kept; None keeps all that the model's own threshold lets through, as evaluation wants.
        The rest replaces the model's own settings. shorter, longer: pixels, the size the network sees. nms: "box",
        "mask" or "matrix". max_pixels: larger files are refused before decoding.
        Raises ModelError for a model that cannot be loaded, UsageError for a setting out of range.
        """
        network, config = load_model(model)
        self._set_up(network, _with_settings(config, conf, shorter, longer, max_detections, nms), device)
        self.conf = conf
        self.max_pixels = max_pixels

    @classmethod
    def from_model(cls, model: CondInst, config: Config, device: str | None = None) -> Self:
        """Around a model already in memory, which is moved to `device` and put into evaluation mode."""
        predictor = cls.__new__(cls)
        predictor._set_up(model, config, device)
        predictor.conf, predictor.max_pixels = None, MAX_PIXELS
        return predictor

    def _set_up(self, model: CondInst, config: Config, device: str | None) -> None:
        self.config = config
        self.device = _device(device)
        self.model = model.to(self.device).eval()

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
            return [self.predict_batch([one])[0] for one in source]
        return self.predict_batch([source])[0]

    def predict_batch(self, sources: list[Source]) -> list[Result]:
        """Segment several pictures in one pass through the network, padded to a common size."""
        if not sources:
            return []
        start = time.perf_counter()
        pictures = [self._read(source) for source in sources]
        images = self._prepare(pictures)
        prepared = time.perf_counter()
        with torch.inference_mode():
            output = self.model(images.tensor.to(self.device))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seen = time.perf_counter()
            found = detect(output, self.config.model, self.config.detect)
            results = assemble(output, found, images, self.config.model, self.config.detect)
        stages = {
            "preprocess": prepared - start,
            "inference": seen - prepared,
            "postprocess": time.perf_counter() - seen,
        }
        speed = {stage: 1000 * seconds / len(sources) for stage, seconds in stages.items()}
        return [self._finish(result, picture, speed) for result, picture in zip(results, pictures, strict=True)]

    def _read(self, source: Source) -> Picture:
        if isinstance(source, str | Path):
            return Picture(read_image(Path(source), max_pixels=self.max_pixels), Path(source))
        if isinstance(source, bytes):
            return Picture(read_image(source, max_pixels=self.max_pixels), None)
        if isinstance(source, Image.Image):
            return Picture(convert_image(source, max_pixels=self.max_pixels), None)
        return Picture(_checked(source), None)

    def _prepare(self, pictures: list[Picture]) -> Images:
        model, size = self.config.model, self.config.input
        arrays, originals = [], []
        for array, _ in pictures:
            height, width = array.shape[:2]
            arrays.append(resize_image(array, *resize_shape(height, width, size.shorter, size.longer)))
            originals.append((height, width))
        return make_images(
            arrays, originals, model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor
        )

    def _finish(self, result: Result, picture: Picture, speed: dict[str, float]) -> Result:
        # the detector's threshold may mean another number than the score (see DetectConfig), so the last word is here
        shown = result if self.conf is None else result[result.boxes.conf >= self.conf]
        return shown.of(picture.path, picture.array if picture.path is None else None, speed)


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
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device '{name}' cannot be used ({reason}); try cpu, or leave it out") from None
    return device


def _checked(array: Any) -> NDArray[np.uint8]:
    if not isinstance(array, np.ndarray):
        raise UsageError(f"image: expected a path, bytes, array or PIL image, got {type(array).__name__}")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(f"image array: expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}")
    return array
