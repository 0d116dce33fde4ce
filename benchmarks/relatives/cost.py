"""What 100 more instances cost an entry: time and memory of one picture with 100 instances, less those with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.accuracy.rival import RivalPredictor
from benchmarks.relatives.contest import RIVAL, configure
from benchmarks.relatives.record import Cost
from benchmarks.relatives.train import open_entry
from benchmarks.speed.measure import Work, peak_memory, race_apart
from condinst.data.formats.coco.read import read_coco
from condinst.errors import CondinstError

MODULE, FUNCTION = "benchmarks.relatives.cost", "predict"
INSTANCES = 100
ALL = ("detect.score_threshold=0", "detect.decayed_threshold=0")  # so that every model finds as many


def measure_cost(entry: str, data: Path, folder: Path, seed: int, code: Path, rounds: int) -> Cost:
    """Time and memory of a trained entry, from the weights in `folder`."""
    given: dict[str, Any] = {"entry": entry, "data": str(data), "folder": str(folder), "seed": seed, "code": str(code)}
    many, one = (given | {"instances": instances} for instances in (INSTANCES, 1))
    what = f"{data.name}, {entry}"
    times = race_apart(MODULE, FUNCTION, what, {"many": many, "one": one}, rounds, "cpu")
    milliseconds = {time.who: time.median for time in times}
    peaks = [peak_memory(MODULE, FUNCTION, what, str(line["instances"]), "cpu", line).median for line in (many, one)]
    return Cost(milliseconds=milliseconds["many"] - milliseconds["one"], megabytes=max(peaks[0] - peaks[1], 0.0))


def predict(device: str, entry: str, data: str, folder: str, seed: int, code: str, instances: int) -> Work:
    """Predict the held-out picture with most objects, and keep `instances` of them."""
    del device
    config = configure(entry, Path(data).name, 1, seed, Path(code))
    threshold = ALL if config.model.method.startswith(("solo", "decoupled")) else ALL[:1]
    settings = [*threshold, f"detect.max_detections={instances}"]
    predictor = open_entry(entry, config, Path(folder), Path(data), settings)
    if entry == RIVAL:
        assert isinstance(predictor, RivalPredictor)
        predictor.model.roi_heads.score_thresh = 0.0
    held_out = read_coco(Path(data) / "val.json", Path(data) / "images")
    picture = max(held_out.samples, key=lambda sample: len(sample.instances)).path

    def work() -> None:
        found = len(predictor(picture))
        if found < instances:
            raise CondinstError(f"{picture}: {entry} finds {found} instances, and {instances} are to be measured")

    return work
