"""How time and memory grow with instances and pixels: 10 to 2000 instances, originals of 0.3 to 50 megapixels.

    python -m benchmarks.speed.scaling

Assembly is everything after detection: mask head, placing in the original, RLE. The pipeline goes from a picture in
memory to boxes and RLE masks.
"""

from __future__ import annotations

import torch

from benchmarks.speed.measure import (
    EXACT,
    FAST,
    REFERENCE,
    RESULTS,
    Device,
    Measurement,
    Out,
    Rounds,
    Threads,
    Work,
    check_device,
    peak_memory,
    race,
    run_benchmark,
    save,
    set_threads,
)
from benchmarks.speed.models.busy import busy_config, busy_model, busy_picture
from benchmarks.speed.reference import ReferencePredictor, draw
from benchmarks.speed.stages import ME as STAGES
from benchmarks.speed.stages import MODEL, check_count, contestant, quiet
from condinst.config import Config
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect, take
from condinst.inference.logits import draw_logits
from condinst.structures import Detections, Images, NetworkOutput

COUNTS = (10, 30, 100, 300, 1000, 2000)
MEGAPIXELS = (0.3, 1.0, 3.0, 12.0, 25.0, 50.0)
PIPELINES = (EXACT, FAST)
USUAL_COUNT, SMALL, LARGE = 100, 1.0, 12.0  # instances; megapixels of the originals of the curves over instances
REFERENCE_COUNT, REFERENCE_MEGAPIXELS = 300, 3.0  # above, the reference needs more memory than many machines have


def main(device: Device = "cpu", rounds: Rounds = 5, threads: Threads = 0, out: Out = RESULTS) -> None:
    """Curves of assembly and pipeline."""
    check_device(device)
    set_threads(threads)
    with torch.inference_mode():
        measurements = [*assembly(rounds, device), *pipeline(rounds, device)]
    settings = {
        "model": f"{MODEL}, input 800 × 1088",
        "by instances": f"assembly into an original of {SMALL:g} megapixel, pipeline into one of {LARGE:g}",
        "by megapixels": f"{USUAL_COUNT} instances, originals of 4:3",
    }
    save("scaling", device, settings, measurements, out)


def size_of(megapixels: float) -> tuple[int, int]:
    """(height, width) of a 4:3 picture; 12 megapixels are 3000×4000."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return height, round(height * 4 / 3)


def assembly(rounds: int, device: str) -> list[Measurement]:
    """Ours over both axes; the reference where it fits."""
    config = busy_config(max(COUNTS))
    predictor = ReferencePredictor(busy_model(config), config, device)
    images = predictor.prepare(busy_picture(*size_of(SMALL)))
    output = predictor.model(images.tensor)
    (found,) = detect(output, config.model, config.detect)
    check_count(len(found.scores), max(COUNTS))

    def contestants(count: int, megapixels: float, reference: bool) -> dict[str, Work]:
        # evenly from best to worst, so that the sizes are alike however many there are
        chosen = take(found, torch.linspace(0, len(found.scores) - 1, count, device=found.levels.device).long())
        target = images._replace(original_sizes=(size_of(megapixels),))
        ours = {EXACT: _ours(output, chosen, target, config)}
        return ours | ({REFERENCE: quiet(lambda: draw(output, chosen, target, config))} if reference else {})

    curves: list[Measurement] = []
    for count in COUNTS:
        both = contestants(count, SMALL, count <= REFERENCE_COUNT)
        curves += race(both, "assembly, by instances", rounds, device, count)
    for megapixels in MEGAPIXELS:
        both = contestants(USUAL_COUNT, megapixels, megapixels <= REFERENCE_MEGAPIXELS)
        curves += race(both, "assembly, by megapixels", rounds, device, megapixels)
    return curves


def _ours(output: NetworkOutput, found: Detections, images: Images, config: Config) -> Work:
    return quiet(lambda: assemble(output, [found], images, draw_logits, config))


def pipeline(rounds: int, device: str) -> list[Measurement]:
    """Time and peak memory of the predictor."""
    points = [("by instances", float(count), count, LARGE) for count in COUNTS]
    points += [("by megapixels", megapixels, USUAL_COUNT, megapixels) for megapixels in MEGAPIXELS]
    curves: list[Measurement] = []
    for axis, at, count, megapixels in points:
        height, width = size_of(megapixels)
        what = f"pipeline, {axis}"
        # without the times of its stages, which stages.py looks at
        contestants = {who: quiet(contestant(who, height, width, device, count)) for who in PIPELINES}
        curves += race(contestants, what, rounds, device, at)
        arguments = {"height": height, "width": width, "detections": count}
        curves += [
            peak_memory(STAGES, "contestant", what, who, device, arguments | {"who": who}, at, processes=1)
            for who in PIPELINES
        ]
    return curves


if __name__ == "__main__":
    run_benchmark(main)
