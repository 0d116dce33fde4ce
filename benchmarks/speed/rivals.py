"""Other programs on the same pictures, each through its own prediction call, 100 instances each.

    python -m benchmarks.speed.rivals

torchvision's Mask R-CNN R50-FPN beside the R50-FPN model at 800×1333; ultralytics' YOLO11-seg and YOLO26-seg beside the
shipped nuclei model at 640×640. The rivals have random weights: nothing is downloaded. ultralytics is AGPL-3.0, needed
for this benchmark only: pip install -e '.[bench]'
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from benchmarks.speed import stages
from benchmarks.speed.measure import (
    RESULTS,
    ROOT,
    Device,
    KeepPages,
    Measurement,
    Out,
    Rounds,
    Threads,
    Work,
    check_device,
    peak_memory,
    race_apart,
    run_benchmark,
    save,
    set_threads,
)
from benchmarks.speed.models.busy import busy_picture
from benchmarks.speed.models.norms import settle_norms
from condinst.errors import CondinstError, UsageError
from condinst.inference.network import TORCH_MODES, TorchMode
from condinst.predictor import Predictor

ME = "benchmarks.speed.rivals"  # for the processes that import it
DETECTIONS = 100
CANDIDATES = 1000  # what passes a rival's threshold, as many as a trained model might leave to its suppression
LARGE, SIDE = (800, 1333), 640
MASK_RCNN = "Mask R-CNN R50-FPN"
YOLOS = {  # name of its YAML, and whether its head without NMS is asked for; predict's default is NMS
    "YOLO11n-seg": ("yolo11n-seg", False),
    "YOLO11s-seg": ("yolo11s-seg", False),
    "YOLO26n-seg": ("yolo26n-seg", False),
    "YOLO26n-seg, NMS-free": ("yolo26n-seg", True),
}
YOLO_CLASSES = 80
NUCLEI = ROOT / "examples" / "images" / "nuclei" / "stained_dense.png"
AT_800, AT_640 = f"{LARGE[0]}×{LARGE[1]}", f"{SIDE}×{SIDE}"


def main(
    device: Device = "cpu", rounds: Rounds = 9, threads: Threads = 0, keep_pages: KeepPages = False, out: Out = RESULTS
) -> None:
    """Latency and peak memory of everyone."""
    check_device(device)
    set_threads(threads)
    measurements: list[Measurement] = []
    for what, names in ((AT_800, [*TORCH_MODES, MASK_RCNN]), (AT_640, [*TORCH_MODES, *YOLOS])):
        contestants = {who: {"what": what, "who": who} for who in names}
        measurements += race_apart(ME, "contestant", what, contestants, rounds, device)
        for who in () if keep_pages else names:
            measurements.append(peak_memory(ME, "contestant", what, who, device, {"what": what, "who": who}))
    settings = {
        "instances": str(DETECTIONS),
        AT_800: f"{stages.MODEL}; Mask R-CNN with random weights, masks pasted and compared with 0.5",
        AT_640: f"the shipped nuclei model on {NUCLEI.relative_to(ROOT)}, RLE masks of the original; YOLO with random "
        "weights, its own predict, masks as it returns them",
        "candidates": f"the rivals' thresholds let about {CANDIDATES} candidates through to their suppression",
    }
    save("rivals", device, settings, measurements, out, keep_pages)


def contestant(what: str, who: str, device: str) -> Work:
    """Picture in, instances out, by whoever it is."""
    if what == AT_640:
        return _nuclei(who, device) if who in TORCH_MODES else yolo(who, *YOLOS[who], device)
    return _mask_rcnn(device) if who == MASK_RCNN else stages.contestant(who, *LARGE, device, DETECTIONS)


def nuclei_picture() -> NDArray[np.uint8]:
    """A sample picture with more than DETECTIONS nuclei, cut square and enlarged to SIDE."""
    with Image.open(NUCLEI) as image:
        side = min(image.size)
        square = image.convert("RGB").crop((0, 0, side, side))
        return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _nuclei(mode: str, device: str) -> Work:
    predictor = Predictor("nuclei", device, max_detections=DETECTIONS, mode=cast(TorchMode, mode))
    return partial(_run_nuclei, predictor, nuclei_picture())


def _run_nuclei(predictor: Predictor, picture: NDArray[np.uint8]) -> Mapping[str, float]:
    result = predictor(picture)
    stages.check_count(len(result), DETECTIONS)
    return result.speed


def _mask_rcnn(device: str) -> Work:
    torch.manual_seed(0)
    picture = busy_picture(*LARGE).copy()  # torch wants it writable
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=LARGE[0],
        max_size=LARGE[1],
        box_score_thresh=0.0,
        box_detections_per_img=DETECTIONS,
    )
    settle_norms(model.backbone, torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)
    model = model.to(device).eval()
    seen: list[Tensor] = []
    hook = model.roi_heads.box_predictor.register_forward_hook(lambda *call: seen.append(call[2][0]))
    run = partial(_run_mask_rcnn, model, picture, device)
    run()
    hook.remove()
    model.roi_heads.score_thresh = threshold_for(seen[0].softmax(dim=1)[:, 1:])
    return run


def _run_mask_rcnn(model: nn.Module, picture: NDArray[np.uint8], device: str) -> None:
    with torch.inference_mode():
        tensor = torch.from_numpy(picture).to(device).permute(2, 0, 1) / 255
        found = model([tensor])[0]
        masks = (found["masks"][:, 0] > 0.5).cpu()
    stages.check_count(len(masks), DETECTIONS)


def yolo(who: str, name: str, own_head: bool, device: str) -> Work:
    """A YOLO's own predict. name: of its YAML file. own_head: ask for its head without NMS."""
    picture = nuclei_picture()
    network = load_yolo(name)
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
    settle_norms(network.model, tensor)
    options = {"conf": 0.0, "nms": False} if own_head else {"conf": yolo_threshold(network, tensor)}
    return yolo_work(network, who, options, device)


def yolo_threshold(network: Any, tensor: Tensor) -> float:
    """The score that CANDIDATES of a network's candidates exceed."""
    with torch.inference_mode():
        scores = network.model.eval()(tensor)[0][0][0, 4 : 4 + YOLO_CLASSES].amax(dim=0)
    return threshold_for(scores)


def yolo_work(network: Any, who: str, options: Mapping[str, Any], device: str = "cpu") -> Work:
    """A contestant with DETECTIONS masks. network: a model of ultralytics, in PyTorch or exported."""
    picture = nuclei_picture()
    predict = partial(network.predict, picture[:, :, ::-1], imgsz=SIDE, device=device, verbose=False, **options)
    # it drops masks without a pixel, which random weights make now and then
    for most in range(DETECTIONS, 2 * DETECTIONS):
        if _count(predict(max_det=most)) == DETECTIONS:
            return partial(_run_yolo, partial(predict, max_det=most))
    raise CondinstError(f"{who}: does not give {DETECTIONS} masks")


def _run_yolo(predict: Callable[[], Any]) -> Mapping[str, float]:
    results = predict()
    stages.check_count(_count(results), DETECTIONS)
    speed: dict[str, float] = results[0].speed
    return speed


def _count(results: Any) -> int:
    return 0 if results[0].masks is None else len(results[0].masks)


def load_yolo(name: str) -> Any:
    """From its YAML, random weights; offline, its settings in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        try:
            import ultralytics
        except ImportError:
            raise UsageError("ultralytics is not installed: pip install -e '.[bench]'") from None
        torch.manual_seed(0)
        return ultralytics.YOLO(f"{name}.yaml")


def threshold_for(scores: Tensor) -> float:
    """The score that CANDIDATES of the given ones exceed."""
    return float(scores.flatten().sort(descending=True).values[CANDIDATES])


if __name__ == "__main__":
    run_benchmark(main)
