"""The switches of the paper's ablations (§4): the numbers they predict, and that each reaches what it switches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine.batches import make_steps
from condinst.engine.losses import prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.inference import assemble
from condinst.inference.full_size import Placement
from condinst.inference.pipeline import Pipeline
from condinst.model.condinst import CondInst, filter_layout
from condinst.predictor import Predictor

SMALL = [
    "model.classes=[cat, dog]",
    "model.backbone.name=mobilenetv2_035",
    "model.fpn_channels=32",
    "model.head={convs: 1, channels: 64, prior: 0.4}",
    "model.mask_branch.convs=1",
    "model.mask_branch.channels=16",
    "input={shorter: 96, longer: 160}",
    "detect.max_detections=8",
]
DEPTH, WIDTH, STRIDE, COORDINATES = (
    f"model.mask_head.{name}" for name in ("depth", "width", "mask_out_stride", "coordinates")
)
FEATURES = "model.mask_branch.features"
SWITCHES = {
    **{f"{DEPTH}={depth}": count for depth, count in ((1, 11), (2, 97), (3, 169), (4, 241))},
    **{f"{WIDTH}={width}": count for width, count in ((2, 31), (4, 69), (8, 169), (16, 465))},
    **{f"{FEATURES}={some}": count for some, count in ((1, 113), (2, 121), (4, 137), (8, 169), (16, 233))},
    **{f"{COORDINATES}={kind}": n for kind, n in (("none", 153), ("absolute", 169), ("relative", 169), ("only", 105))},
    **{f"{STRIDE}={stride}": 169 for stride in (8, 4, 2)},
    **{f"detect.nms={kind}": 169 for kind in ("box", "mask", "matrix")},
}
LOSSES = {  # the term that each switch changes
    "loss.classification=cross_entropy": {"classification"},
    "loss.box=iou": {"box"},
    "loss.box=plain_giou": {"box"},
    "loss.box=smooth_l1": {"box"},
    "loss.mask=bce": {"mask"},
    "loss.mask=both": {"mask"},
    "loss.quality=iou": {"quality", "box"},  # whose target no longer weights the boxes
    "targets.mask_sampling=best_per_image": {"mask"},
    "targets.mask_sampling=random_per_image": {"mask"},
}
NUCLEI = Path(__file__).parent / "data" / "nuclei"


def build(*switches: str) -> tuple[CondInst, Config]:
    config = Config().with_overrides([*SMALL, *switches])
    torch.manual_seed(0)
    model = CondInst(config.model)
    torch.nn.init.constant_(model.head.distances.bias, 2)  # boxes that show something, whatever the random weights
    with torch.no_grad():  # and masks
        model.head.controller.bias.normal_(std=0.5)
        model.head.controller.bias[-1] = 6  # the last number is the mask logit's own bias
    return model, config


def predicted_numbers(model: CondInst) -> int:
    """All parameters less those of the same network with a controller of one number."""
    per_number = model.head.controller.weight[0].numel() + 1
    others = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("head.controller."))
    numbers, rest = divmod(sum(p.numel() for p in model.parameters()) - others, per_number)
    assert rest == 0
    return numbers


@pytest.mark.parametrize(("switch", "count"), SWITCHES.items())
def test_parameter_count(switch: str, count: int) -> None:
    model, config = build(switch)
    assert predicted_numbers(model) == filter_layout(config.model).count == count
    assert (model.mask_branch is None) == switch.endswith("=only")


@pytest.mark.parametrize("switch", SWITCHES)
def test_predicts(switch: str) -> None:
    model, config = build(switch)
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    result = Predictor.from_model(model, config, "cpu")(picture)
    assert 0 < len(result) <= 8
    assert result.masks.data.shape == (len(result), 90, 130)
    assert result.masks.data.any()


@pytest.mark.parametrize("stride", [8, 4, 2])
def test_mask_out_stride_is_the_resolution_of_the_probabilities(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 is half the input's resolution: an original of that size shows each probability once."""
    model, config = build(f"{STRIDE}={stride}", "input={shorter: 96, longer: 128}")
    seen: list[Placement] = []
    monkeypatch.setattr(assemble, "place", lambda logits, placement: seen.append(placement) or [])
    monkeypatch.setattr(assemble, "Result", lambda *_: None)
    monkeypatch.setattr(Pipeline, "_finish", lambda *_: None)
    Predictor.from_model(model, config, "cpu")(np.zeros((96, 128, 3), dtype=np.uint8))
    assert [placement.stride for placement in seen] == [stride]


@pytest.fixture(scope="module")
def losses_with() -> Callable[..., dict[str, float]]:
    """The losses of one batch of real pictures, 9 mask positives at most, and the numbers its controller predicts."""
    data = replace(read_coco(NUCLEI / "train.json", NUCLEI / "images"), classes=("cat", "dog"))
    fixed = ["augment={shorter: [96], longer: 160, crop: 96}", "train={init: none, batch_size: 2, workers: 0}"]

    def run(*switches: str) -> dict[str, float]:
        model, config = build(*fixed, "targets.max_mask_positives=9", *switches)
        accelerator = make_accelerator(config)
        (part,) = prepare(next(make_steps(0, config, data, accelerator)), config, accelerator)
        generator = torch.Generator().manual_seed(0)
        losses = step_losses(model.train(), part, generator, 0, config, accelerator)
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert predicted_numbers(model) == 169
        return {name: float(loss.detach()) for name, loss in losses.items()}

    return run


@pytest.mark.parametrize(("switch", "changed"), LOSSES.items())
def test_trains(switch: str, changed: set[str], losses_with: Callable[..., dict[str, float]]) -> None:
    plain, switched = losses_with(), losses_with(switch)
    assert all(np.isfinite(value) for value in switched.values())
    assert {name for name, value in plain.items() if abs(value - switched[name]) > 1e-4 * abs(value)} == changed
