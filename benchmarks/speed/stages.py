"""Where the time goes: R50-FPN CondInst at 800×1333 with 100 instances, the published way beside ours.

    python -m benchmarks.speed.stages

End to end from a picture in memory to boxes and RLE masks, into originals of 640×384 and 4000×3000 pixels, and each
stage alone on the same inputs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.speed import reference
from benchmarks.speed.floors import count_operations, floors, measure_rates, size_of
from benchmarks.speed.measure import (
    COMPILED,
    EXACT,
    FAST,
    REFERENCE,
    RESULTS,
    Device,
    KeepPages,
    Measurement,
    Out,
    Rounds,
    Threads,
    Work,
    check_device,
    peak_memory,
    race,
    race_apart,
    run_benchmark,
    save,
    set_threads,
    synchronize,
)
from benchmarks.speed.models.busy import busy_config, busy_model, busy_picture
from condinst.config import Config
from condinst.errors import CondinstError
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect
from condinst.inference.full_size import Placement
from condinst.inference.logits import mask_logits
from condinst.inference.network import TorchMode
from condinst.inference.regions import place
from condinst.model.condinst import CondInst
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.predictor import Predictor
from condinst.structures import MASK_FEATURE_STRIDE, Detections, Images, NetworkOutput

ME = "benchmarks.speed.stages"  # for the processes that import it
DETECTIONS, MANY = 100, 1000
WHO = (REFERENCE, EXACT, FAST, COMPILED)
SMALL, LARGE = (384, 640), (3000, 4000)  # originals, (height, width)
MODEL = "ResNet-50-FPN, 80 classes, mask_out_stride 4, random weights that draw compact masks"
MANY_TITLE = f"4000×3000 with {MANY} instances"
REPEATS = {"cpu": 1, "cuda": 20}  # of short stages between two looks at the clock
STAGES = {"backbone and FPN": ("backbone", "fpn"), "FCOS head": ("head",), "mask branch": ("mask_branch",)}


def main(
    device: Device = "cpu",
    rounds: Rounds = 9,
    large_rounds: Rounds = 3,
    threads: Threads = 0,
    keep_pages: KeepPages = False,
    out: Out = RESULTS,
) -> None:
    """Time and peak memory of the reference, the exact and the fast mode."""
    check_device(device)
    set_threads(threads)
    with torch.inference_mode():
        measurements = [
            *end_to_end(SMALL, rounds, device),
            *end_to_end(LARGE, large_rounds, device),
            *single_stages(rounds, large_rounds, device),
        ]
    if not keep_pages:
        measurements += [memory(title(size), who, size, DETECTIONS, device) for size in (SMALL, LARGE) for who in WHO]
        measurements += [memory(MANY_TITLE, who, LARGE, MANY, device) for who in (EXACT, FAST)]
    save("stages", device, describe(device), measurements, out, keep_pages)


def memory(what: str, who: str, size: tuple[int, int], detections: int, device: str) -> Measurement:
    arguments = {"who": who, "height": size[0], "width": size[1], "detections": detections}
    return peak_memory(ME, "contestant", what, who, device, arguments)


def title(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def contestant(who: str, height: int, width: int, device: str, detections: int = DETECTIONS) -> Work:
    """Picture in, boxes and RLE out; the stages' own times are returned."""
    picture, config = busy_picture(height, width), busy_config(detections)
    model = busy_model(config)
    if who == REFERENCE:
        return partial(_run_reference, reference.ReferencePredictor(model, config, device), picture, detections)
    predictor = Predictor.from_model(model, config, device, cast(TorchMode, who))
    inside = predictor.network.module if who != COMPILED else None  # compiled code has no stages to look into
    return partial(_run_ours, predictor, inside, picture, detections, device)


def end_to_end(size: tuple[int, int], rounds: int, device: str) -> list[Measurement]:
    contestants = {who: {"who": who, "height": size[0], "width": size[1]} for who in WHO}
    return race_apart(ME, "contestant", title(size), contestants, rounds, device)


def _run_reference(
    predictor: reference.ReferencePredictor, picture: NDArray[np.uint8], detections: int
) -> Mapping[str, float]:
    with stage_times(predictor.model, predictor.device) as times:
        found = predictor(picture)
    check_count(len(found.rles), detections)
    return predictor.times | times


def _run_ours(
    predictor: Predictor, inside: nn.Module | None, picture: NDArray[np.uint8], detections: int, device: str
) -> Mapping[str, float]:
    with stage_times(inside, device) as times:
        result = predictor(picture)
    check_count(len(result), detections)
    return result.speed | times


def check_count(count: int, wanted: int) -> None:
    """Raises CondinstError unless there are as many instances as wanted; ties with the last one may add a few."""
    if not wanted <= count <= 1.05 * wanted:
        raise CondinstError(f"{count} instances instead of {wanted}")


@contextmanager
def stage_times(model: nn.Module | None, device: str) -> Iterator[dict[str, float]]:
    """Milliseconds that the network's parts take inside a run, by stage; empty without a model."""
    times: dict[str, float] = {}
    hooks = []
    for stage, parts in STAGES.items():
        for part in parts if model is not None else ():
            hooks += _hooks(cast(nn.Module, model).get_submodule(part), stage, times, device)
    try:
        yield times
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(module: nn.Module, stage: str, times: dict[str, float], device: str) -> list[Any]:
    starts: list[float] = []

    def before(*_: Any) -> None:
        synchronize(device)
        starts.append(time.perf_counter())

    def after(*_: Any) -> None:
        synchronize(device)
        times[stage] = times.get(stage, 0.0) + 1000 * (time.perf_counter() - starts.pop())

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


class Case(NamedTuple):
    """One picture as the network saw it, eager and in float32."""

    model: CondInst
    config: Config
    images: Images
    output: NetworkOutput
    found: Detections
    device: str


def single_stages(rounds: int, large_rounds: int, device: str) -> list[Measurement]:
    """Detection, mask head, assembly with RLE, and the last two together, each on the same inputs for both.

    "mask head" is its layers, "mask head, enlarged" brings the logits to mask_out_stride, too. The predictor does that
    while it assembles, so our "assembly and RLE" starts from smaller maps and does more than the reference's.
    """
    config = busy_config(DETECTIONS)
    model = busy_model(config)
    images = reference.ReferencePredictor(model, config, device).prepare(busy_picture(*SMALL))
    output = model(images.tensor)
    case = Case(model, config, images, output, reference.detect(output.head, config.detect), device)
    heads = head_inputs(case)
    return [
        *detection(case, rounds),
        *(one for what, inputs in heads.items() for one in mask_head(what, inputs, rounds, device)),
        *hardware_floors(model, images.tensor, heads, device),
        *(one for size, times in ((SMALL, rounds), (LARGE, large_rounds)) for one in assembly(case, size, times)),
    ]


def head_inputs(case: Case) -> dict[str, tuple[Any, ...]]:
    """What both mask heads take, by what they are to make."""
    settings, found = case.config.model, case.found
    scales = torch.tensor(settings.coordinate_scales, device=case.device)[found.levels]
    image = torch.zeros_like(found.levels)
    inputs = (case.output.mask_features, found.filters, image, found.locations, scales, case.model.layout)
    strides = {"mask head": MASK_FEATURE_STRIDE, "mask head, enlarged": settings.mask_head.mask_out_stride}
    return {what: (*inputs, settings.mask_head.coordinates, stride) for what, stride in strides.items()}


def detection(case: Case, rounds: int) -> list[Measurement]:
    settings = case.config.detect
    contestants = {
        REFERENCE: quiet(lambda: reference.detect(case.output.head, settings)),
        EXACT: quiet(lambda: detect(case.output, case.config.model, settings)),
    }
    return race(contestants, "detect", rounds, case.device, repeats=REPEATS[case.device])


def mask_head(what: str, inputs: tuple[Any, ...], rounds: int, device: str) -> list[Measurement]:
    contestants = {
        REFERENCE: quiet(lambda: reference.mask_head(*inputs)),
        EXACT: quiet(lambda: dynamic_mask_head(*inputs)),
    }
    return race(contestants, what, rounds, device, repeats=REPEATS[device])


def assembly(case: Case, size: tuple[int, int], rounds: int) -> list[Measurement]:
    """Into an original of (height, width)."""
    settings, config = case.config.model, case.config.detect
    stride = settings.mask_head.mask_out_stride
    target = case.images._replace(original_sizes=(size,))
    placement = Placement(stride, target.sizes[0], size, config.mask_threshold)
    logits = torch.cat(list(mask_logits(case.output.mask_features[0], case.found, settings)))
    probabilities = reference.aligned_bilinear(logits[:, None], MASK_FEATURE_STRIDE // stride)[:, 0].sigmoid()
    assembling = {
        REFERENCE: quiet(lambda: reference.encode(reference.paste(probabilities, *placement[:4]))),
        EXACT: quiet(lambda: place(logits.cpu(), placement)),
    }
    everything = {
        REFERENCE: quiet(lambda: reference.draw(case.output, case.found, target, case.config)),
        EXACT: quiet(lambda: assemble(case.output, [case.found], target, mask_logits, case.config)),
    }
    return [
        *race(assembling, f"assembly and RLE, {title(size)}", rounds, case.device),
        *race(everything, f"masks in all, {title(size)}", rounds, case.device),
    ]


def hardware_floors(
    model: CondInst, images: Tensor, heads: Mapping[str, tuple[Any, ...]], device: str
) -> list[Measurement]:
    """Of the network's parts, by their operations, and of the mask head, by those and by what it reads and writes."""
    pyramid = model.fpn(model.backbone(images))
    operations = {
        f"{title(SMALL)}, backbone and FPN": count_operations(lambda: model.fpn(model.backbone(images))),
        f"{title(SMALL)}, FCOS head": count_operations(lambda: model.head(pyramid)),
        f"{title(SMALL)}, mask branch": count_operations(lambda: cast(nn.Module, model.mask_branch)(pyramid)),
    }
    traffic = {}
    for what, (features, filters, *rest) in heads.items():
        operations[what] = 2 * len(filters) * features[0, 0].numel() * sum(model.layout.weight_counts)
        traffic[what] = size_of(features, filters, dynamic_mask_head(features, filters, *rest))
    return floors(measure_rates(device), operations, traffic)


def quiet(run: Any) -> Work:
    """A contestant that has no times of its own."""

    def work() -> None:
        run()

    return work


def describe(device: str) -> dict[str, str]:
    """The input in words, masks measured."""
    config = busy_config(DETECTIONS)
    predictor = reference.ReferencePredictor(busy_model(config), config, device)
    found = predictor(busy_picture(*SMALL))
    areas = np.sort(reference.codec.area(found.rles)) / (SMALL[0] * SMALL[1])
    return {
        "model": MODEL,
        "instances": str(len(areas)),
        "share of the picture a mask covers": f"median {np.median(areas):.2%}, mean {areas.mean():.2%}, "
        f"largest {areas[-1]:.2%}",
        "input": " × ".join(str(side) for side in predictor.prepare(busy_picture(*SMALL)).tensor.shape[2:]),
    }


if __name__ == "__main__":
    run_benchmark(main)
