"""The published BlendMask and MEInst, their weights filled by formula: from the picture to the masks, stage by stage.

The recorded numbers lie in ../shared/reference/{blendmask,meinst}; each test's largest deviations are its recorded
properties.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as oracle
from torch import Tensor, nn

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.pictures.image import read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.inference.assemble import assemble
from condinst.inference.detect import take
from condinst.inference.network import make_network
from condinst.inference.result import Result
from condinst.method import Method
from condinst.methods.choose import build_network, method_of
from condinst.model.heads.basis_module import STRIDE, enlarge_to
from condinst.model.heads.fcos_head import FCOSHead
from condinst.ops.blend import pool_bases
from condinst.structures import Detections, Images, NetworkOutput
from condinst.weights.published.convert import read_published
from tests.parity.boxed.formula import FOLDERS, REFERENCE, SKIP, state_of

VARIANT = pytest.mark.variant
EXACT = "exact:"  # by the network that `Predictor(mode="exact")` runs, with norms folded and channels last
RT = "RT_R_50_4x_bn-head_syncbn_shtw"
CASES = [
    pytest.param("BlendMask/R_50_1x__s256", id="blendmask"),
    pytest.param("BlendMask/exact:R_50_1x__s256", id="blendmask-exact"),
    pytest.param("BlendMask/R_50_1x__s256_alllevels", id="blendmask-alllevels", marks=VARIANT),
    pytest.param("BlendMask/R_50_1x__s256_batch2mixed", id="blendmask-batch2", marks=VARIANT),
    pytest.param("BlendMask/R_50_1x__s256_th015", id="blendmask-th015", marks=VARIANT),
    pytest.param("BlendMask/R_50_1x__s800", id="blendmask-s800", marks=VARIANT),
    pytest.param("BlendMask/550_R_50_3x__s256", id="blendmask-550"),
    pytest.param(f"BlendMask/{RT}__s256", id="blendmask-rt"),
    pytest.param(f"BlendMask/exact:{RT}__s256", id="blendmask-rt-exact", marks=VARIANT),
    pytest.param("BlendMask/DLA_34_syncbn_4x__s256", id="blendmask-dla"),
    pytest.param("MEInst/MEInst_R_50_1x__s256", id="meinst"),
    pytest.param("MEInst/exact:MEInst_R_50_1x__s256", id="meinst-exact", marks=VARIANT),
    pytest.param("MEInst/MEInst_R_50_1x__s256_alllevels", id="meinst-alllevels", marks=VARIANT),
    pytest.param("MEInst/MEInst_R_50_1x__s256_batch2mixed", id="meinst-batch2", marks=VARIANT),
    pytest.param("MEInst/MEInst_R_50_1x__s256_th015", id="meinst-th015"),
    pytest.param("MEInst/MEInst_R_50_1x__s800", id="meinst-s800", marks=VARIANT),
    pytest.param("MEInst/MEInst_R_50_1x_none__s256", id="meinst-none"),
]
Note = Callable[[str, object], None]
NEAR = 1e-4  # a probability as close to the threshold may be on either side
pytestmark = SKIP


class Run(NamedTuple):
    """What ours makes of a case, and what was recorded of it. stages: maps by their recorded names."""

    arrays: Any
    recorded: dict[str, Any]
    images: Images
    config: Config
    stages: dict[str, Tensor]
    output: NetworkOutput
    found: list[Detections]
    squares: list[Tensor]
    results: list[Result]


class Loaded(NamedTuple):
    """A model with the tensors of the formula."""

    network: nn.Module
    config: Config
    method: Method[Any, Any]


@pytest.fixture(scope="module")
def load() -> Callable[[str, str], Loaded]:
    """A published configuration's model; the last one is kept."""
    kept: dict[str, Loaded] = {}

    def build(method: str, name: str) -> Loaded:
        if name not in kept:
            kept.clear()
            published = read_published(state_of(method, name), name)
            model = build_network(published.config.model).eval()
            model.load_state_dict(published.tensors)
            kept[name] = Loaded(model, published.config, method_of(published.config.model))
        return kept[name]

    return build


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest, load: Callable[[str, str], Loaded]) -> Run:
    method, _, case = request.param.partition("/")
    name = case.removeprefix(EXACT)
    loaded = load(method, name.split("__")[0])
    config = loaded.config
    if "alllevels" in name:
        config = config.with_overrides(["detect.candidates_per_level=30", "detect.score_threshold=0.02"])
    if "th015" in name:
        config = config.with_overrides(["detect.score_threshold=0.15"])
    recorded = json.loads((FOLDERS[method] / f"{name}.json").read_text())
    picture = read_image(REFERENCE.parent / "data" / "coco_mini" / "images" / recorded["image"])
    pictures = [picture, np.ascontiguousarray(picture[:, :360])] if "batch2" in name else [picture]
    with torch.inference_mode():
        images = prepare(pictures, config, 800 if "s800" in name else 256)
        if case == name:
            stages = stages_of(loaded.network, images.tensor)
            output = loaded.network(images.tensor)
        else:
            stages, output = {}, make_network(loaded.network, "exact", torch.device("cpu"), 32)(images.tensor)
        found = loaded.method.detect(output, config.model, config.detect, None)
        draw = loaded.method.draw
        squares = [torch.cat(list(draw(output, image, one, config.model))) for image, one in enumerate(found)]
        results = assemble(output, found, images, draw, config)
    arrays = np.load(FOLDERS[method] / f"{name}.npz")
    return Run(arrays, recorded, images, config, stages, output, found, squares, results)


def stages_of(network: Any, images: Tensor) -> dict[str, Tensor]:
    """The maps of all stages by their recorded names."""
    features = network.backbone(images)
    pyramid = network.fpn(features)
    found = {f"bottom_up.res{level}": maps for level, maps in zip(range(3, 6), features, strict=True)}
    found |= {f"fpn.p{level}": maps for level, maps in enumerate(pyramid, start=3)}
    head = network.head
    assert isinstance(head, FCOSHead)
    codes = "top_feats" if head.mask_tower is None else "mask_codes"
    for name, maps in zip(("logits", "reg", "ctr", codes), head(pyramid), strict=True):
        found |= {f"head.{name}.p{level}": one for level, one in enumerate(maps, start=3)}
    if head.mask_tower is not None:
        return found
    basis = network.mask_branch
    refined = [refine(level) for refine, level in zip(basis.refine, pyramid, strict=False)]
    found |= {f"basis.refine{index}": maps for index, maps in enumerate(refined)}
    maps = sum(enlarge_to(one, refined[0].shape[-2:]) for one in refined)
    large = (2 * maps.shape[-2], 2 * maps.shape[-1])
    layers = (*basis.tower, lambda one: enlarge_to(one, large), basis.fine, basis.features)
    for index, layer in enumerate(layers):
        maps = layer(maps)
        found[f"basis.tower{index}"] = maps
    found["bases"] = basis(pyramid)
    return found


def prepare(pictures: list[NDArray[np.uint8]], config: Config, shorter: int) -> Images:
    model = config.model
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    shapes = [resize_shape(*size, shorter, 1333) for size in sizes]
    resized = [resize_image(picture, *shape) for picture, shape in zip(pictures, shapes, strict=True)]
    return make_images(resized, sizes, model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor)


def deviation(run: Run, name: str, mine: Tensor) -> float:
    """The difference from what was recorded of a map, as a part of its length or of its largest magnitude."""
    arrays = run.arrays
    stats = arrays[f"{name}#stats"]
    double = mine.double()
    numbers = torch.stack([double.mean(), double.std(), double.abs().max()]).numpy()
    means = double.mean(dim=(2, 3)).numpy()
    # of a mean, the largest magnitude is the measure: it may nearly cancel
    apart = [
        float(np.abs(numbers - stats[[0, 1, 3]]).max()) / float(stats[3]),
        float(np.abs(means - arrays[f"{name}#chmean"]).max()) / float(stats[3]),
    ]
    for part, shown in ((mine, name), (mine[:, ::4, ::8, ::8], f"{name}#sub8")):
        if shown in arrays:
            theirs = arrays[shown]
            assert tuple(part.shape) == theirs.shape
            apart.append(float(np.linalg.norm(part.numpy() - theirs) / np.linalg.norm(theirs)))
    assert np.isfinite(apart).all()
    return max(apart)


def difference(mine: Tensor, theirs: NDArray[Any]) -> float:
    assert tuple(mine.shape) == theirs.shape
    largest = float(np.abs(mine.double().numpy() - theirs).max())
    assert np.isfinite(largest)
    return largest


def order(run: Run, image: int) -> list[int]:
    """Where each recorded detection is among ours: by class, location and level, since ranks lie too close together."""
    found, prefix = run.found[image], f"prop{image}"
    columns = [run.arrays[f"{prefix}.classes"].tolist(), run.arrays[f"{prefix}.locations"].tolist()]
    ours = [found.labels.tolist(), found.locations.tolist()]
    if f"{prefix}.fpn_levels" in run.arrays:
        columns.append(run.arrays[f"{prefix}.fpn_levels"].tolist())
        ours.append(found.levels.tolist())
    theirs = [str(row) for row in zip(*columns, strict=True)]
    places = {str(row): number for number, row in enumerate(zip(*ours, strict=True))}
    assert sorted(places) == sorted(theirs)
    return [places[row] for row in theirs]


def test_picture(run: Run) -> None:
    """Resizing equals the original's pixel for pixel."""
    for image, (height, width) in enumerate(run.images.sizes):
        if f"resized{image}_bgr_uint8" not in run.arrays:
            continue
        resized = run.arrays[f"resized{image}_bgr_uint8"]
        assert resized.shape[:2] == (height, width)
        back = run.images.tensor[image, :, :height, :width] + torch.tensor(run.config.model.pixel_mean)[:, None, None]
        assert np.array_equal(back.permute(1, 2, 0).round().to(torch.uint8).numpy(), resized)


def test_maps(run: Run, record_property: Note) -> None:
    recorded = {name for name in run.stages if f"{name}#stats" in run.arrays}
    if not run.stages or not recorded:
        pytest.skip("no maps were recorded of this case, or this network has other ones")
    assert all(name in recorded for name in run.stages if not name.startswith("bottom_up."))
    deviations = {name: deviation(run, name, run.stages[name]) for name in recorded}
    record_property("maps", max(deviations.values()))
    assert max(deviations.values()) <= 1e-5, max(deviations, key=deviations.__getitem__)


def test_detections(run: Run, record_property: Note) -> None:
    for image, found in enumerate(run.found):
        sorted_found, prefix = take(found, torch.tensor(order(run, image), dtype=torch.int64)), f"prop{image}"
        boxes = difference(sorted_found.boxes, run.arrays[f"{prefix}.boxes"])
        scores = difference(sorted_found.scores, run.arrays[f"{prefix}.scores"])
        record_property(f"boxes, image {image}", boxes)
        record_property(f"scores, image {image}", scores)
        assert boxes <= 2e-3
        assert scores <= 1e-5
        for name, rows in (("top_feat", 1000), ("top_feat#first12", 12), ("mask_code", 1000)):
            if f"{prefix}.{name}" in run.arrays:
                theirs = run.arrays[f"{prefix}.{name}"]
                filters = difference(sorted_found.filters[:rows], theirs) / float(np.abs(theirs).max())
                record_property(f"filters, image {image}", filters)
                assert filters <= 2e-5


def test_squares(run: Run, record_property: Note) -> None:
    """The pooled bases and the probabilities inside the boxes."""
    for image, squares in enumerate(run.squares):
        rows, prefix = order(run, image), f"prop{image}"
        mine = squares[rows]
        parts = [(mine[:, ::4, ::4], "mask56#sub4"), (mine.mean(dim=(1, 2)), "mask56#mean"), (mine, "mask28")]
        kinds = ("mask56", "mask28")
        parts += [(mine[:count], f"{kind}#first{count}") for kind in kinds for count in (3, 8, 24)]
        parts += [(pooled(run, image, rows)[:count], f"rois#first{count}") for count in (1, 2)]
        apart = {
            name: difference(one, run.arrays[at]) for one, name in parts if (at := f"{prefix}.{name}") in run.arrays
        }
        assert apart
        for name, number in apart.items():
            record_property(f"{name}, image {image}", number)
            assert number <= 6e-5 or name.startswith("rois"), name
            largest = float(np.abs(run.arrays[f"{prefix}.{name}"]).max())
            assert number <= 6e-5 * max(largest, 1), name


def pooled(run: Run, image: int, rows: list[int]) -> Tensor:
    """The bases inside the boxes of the instances; none for MEInst."""
    if run.output.code is not None:
        return torch.zeros(0)
    boxes, side = run.found[image].boxes[rows], run.config.model.blendmask.resolution
    images = torch.full((len(boxes),), image)
    return pool_bases(run.output.mask_features, boxes, images, side, STRIDE)


def test_results(run: Run, record_property: Note) -> None:
    """Boxes, scores and masks in the original picture; none is dropped, none added.

    Where all four bases are 0, the probability of BlendMask is exactly the threshold, and rounding decides.
    """
    for image, (result, recorded) in enumerate(zip(run.results, run.recorded["results"], strict=True)):
        rows = order(run, image)
        assert len(result) == recorded["n"] == len(rows)
        boxes = difference(result.boxes.xyxy[rows], run.arrays[f"out{image}.boxes"])
        scores = difference(result.boxes.conf[rows], run.arrays[f"out{image}.scores"])
        assert np.array_equal(result.boxes.cls[rows].numpy(), run.arrays[f"out{image}.classes"])
        assert boxes <= 2e-3
        assert scores <= 1e-5
        masks = [dict(result.masks.rle[row]) for row in rows]
        overlaps = [overlap(mine, theirs) for mine, theirs in zip(masks, recorded["rles"], strict=True)]
        record_property(f"boxes in the original, image {image}", boxes)
        record_property(f"smallest mask IoU, image {image}", min(overlaps))
        apart, near = 0, 0
        for row, theirs in zip(rows, recorded["rles"], strict=True):
            values = stretched(run.squares[image][row], result.boxes.xyxy[row], run.images.original_sizes[image])
            differs = (values >= 0.5).numpy() != oracle.decode(theirs).astype(bool)
            undecided = (values - 0.5).abs().numpy() <= NEAR
            apart, near = apart + int((differs & ~undecided).sum()), near + int((differs & undecided).sum())
        record_property(f"pixels that differ, image {image}", apart)
        record_property(f"pixels that differ by rounding, image {image}", near)
        assert apart == 0
        assert min(overlaps) >= 0.97


def stretched(square: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """The probabilities (height, width) of a square that fills a box."""
    places = []
    for low, high, side in zip(box[:2].tolist(), box[2:].tolist(), size[::-1], strict=True):
        places.append((torch.arange(side) + 0.5 - low) / (high - low) * 2 - 1)
    grid = torch.stack((places[0].expand(size), places[1][:, None].expand(size)), dim=-1)
    return F.grid_sample(square[None, None], grid[None], align_corners=False)[0, 0]


def overlap(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert mine["size"] == theirs["size"]
    if not oracle.area(theirs) or not oracle.area(mine):
        return float(oracle.area(theirs) == oracle.area(mine))
    return float(oracle.iou([mine], [theirs], [0])[0, 0])
