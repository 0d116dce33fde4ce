"""Measure the ways to run a model on this machine: PyTorch, ONNX Runtime, OpenVINO; in 32, 16 and 8 bit."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from condinst.data.sample import AnnotatedData
from condinst.errors import UsageError
from condinst.evaluation.evaluate import evaluate
from condinst.export.check import Say
from condinst.export.compare import own_pictures
from condinst.export.folder import Wish, export_model
from condinst.export.names import INT8_FILE, ONNX_FILE, OPENVINO_FILE, PROGRAM_SUFFIXES
from condinst.inference.network import TORCH_MODES, Mode
from condinst.inference.settings import with_settings
from condinst.predictor import Predictor
from condinst.settings.prediction import SHOWN_SCORE
from condinst.weights.folder import load_model
from condinst.weights.names import WEIGHTS_FILE, resolve

STAGES = ("preprocess", "inference", "postprocess")


class Way(NamedTuple):
    """A way to run the model. file: what it reads, for its size."""

    name: str
    source: str | Path
    mode: Mode | None
    file: Path | None


class Row(NamedTuple):
    """The result of one way. Sizes are megabytes, times are milliseconds for a picture, medians of the rounds.

    instances: found in all pictures. box, mask: AP, or None without annotated data.
    """

    name: str
    megabytes: float
    stages: tuple[float, float, float]
    total: float
    instances: int
    box: float | None
    mask: float | None


def benchmark(
    model: str,
    pictures: Sequence[Path] = (),
    size: int | None = None,
    rounds: int = 5,
    data: AnnotatedData | None = None,
    calibration: Path | None = None,
    say: Say = lambda text: None,
) -> list[Row]:
    """Time all ways that work on this machine, in turns, on the CPU with torch's number of threads.

    pictures: by default those that come with the package. size: the shorter side of the resized pictures. data: for the
    AP of each way. calibration: annotated pictures for a program in 8 bit. Raises UsageError, DataError or ModelError.
    """
    if rounds < 1:
        raise UsageError(f"rounds: expected a whole number from 1 on, got {rounds}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="condinst-")))
        ways = list(_ways(model, folder, calibration, say))
        predictors = {way: _predictor(way) for way in ways}
        timed = _time(predictors, list(pictures) or own_pictures(), size, rounds)
        return [_row(way, *timed[way], _scores(way, predictors[way], data, size, say)) for way in ways]


def _ways(model: str, folder: Path, calibration: Path | None, say: Say) -> list[Way]:
    place = resolve(model)
    own = place if isinstance(place, Path) else None
    named = own or model  # a folder would run a program in it
    ways = [Way("PyTorch, exact", named, "exact", own), Way("PyTorch, fast", named, "fast", own)]
    has_onnx = bool(find_spec("onnx") and find_spec("onnxscript"))
    if has_onnx and find_spec("onnxruntime"):
        export_model(Wish(model, "onnx", folder / "onnx"), say)
        ways.append(Way("ONNX Runtime", folder / "onnx" / ONNX_FILE, None, folder / "onnx" / ONNX_FILE))
    else:
        say("note: ONNX Runtime is not installed: pip install 'condinst[export]'")
    if not (has_onnx and find_spec("openvino")):
        say("note: OpenVINO is not installed: pip install 'condinst[export,openvino]'")
        return ways
    if calibration is None and own is not None and own.name == WEIGHTS_FILE and own.with_name(INT8_FILE).is_file():
        home = own.parent  # the user exported the model already
    else:
        home = folder / "openvino"
        export_model(Wish(model, "openvino", home, calibration), say)
    weights = (home / OPENVINO_FILE).with_suffix(".bin")
    ways.append(Way("OpenVINO", home / OPENVINO_FILE, None, weights))
    ways.append(Way("OpenVINO, 16 bit", home / OPENVINO_FILE, "fast", weights))
    if (home / INT8_FILE).is_file():
        ways.append(Way("OpenVINO, 8 bit", home / INT8_FILE, None, (home / INT8_FILE).with_suffix(".bin")))
    else:
        say("note: no 8 bit without --int8 DATA")
    return ways


def _predictor(way: Way) -> Predictor:
    """A predictor that runs the model in this way and in no other, with all scores."""
    if way.mode in TORCH_MODES and not str(way.source).endswith(PROGRAM_SUFFIXES):
        return Predictor.from_model(*load_model(way.source), "cpu", way.mode)  # type: ignore[arg-type]
    return Predictor(way.source, "cpu", None, mode=way.mode)


def _time(
    predictors: dict[Way, Predictor], pictures: list[Path], size: int | None, rounds: int
) -> dict[Way, tuple[tuple[float, ...], float, int]]:
    """Stages and total in milliseconds, medians over the rounds of the mean over the pictures, and instances."""
    times: dict[Way, list[tuple[float, ...]]] = {way: [] for way in predictors}
    found = dict.fromkeys(predictors, 0)
    for round_ in range(rounds + 1):
        for way, predictor in predictors.items():
            start = time.perf_counter()
            results = [predictor(picture, size=size, conf=SHOWN_SCORE) for picture in pictures]
            total = 1000 * (time.perf_counter() - start) / len(pictures)
            stages = (statistics.fmean(result.speed[stage] for result in results) for stage in STAGES)
            if round_:  # the first round warms up
                times[way].append((*stages, total))
            found[way] = sum(map(len, results))
    middle = {way: tuple(map(statistics.median, zip(*each, strict=True))) for way, each in times.items()}
    return {way: (middle[way][:3], middle[way][3], found[way]) for way in predictors}


def _scores(
    way: Way, predictor: Predictor, data: AnnotatedData | None, size: int | None, say: Say
) -> tuple[float | None, float | None]:
    if data is None:
        return None, None
    say(f"measuring {way.name} on {len(data.samples)} pictures")
    predictor.config = with_settings(predictor.config, shorter=size)
    scores = evaluate(data, predictor, predictor.config.detect.max_detections)
    return scores.bbox.AP, scores.segm.AP


def _row(
    way: Way, stages: tuple[float, ...], total: float, instances: int, scores: tuple[float | None, float | None]
) -> Row:
    megabytes = way.file.stat().st_size / 1e6 if way.file is not None else float("nan")
    return Row(way.name, megabytes, (stages[0], stages[1], stages[2]), total, instances, *scores)
