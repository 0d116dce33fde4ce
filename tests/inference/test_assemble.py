"""Masks in the original image: the fast computation equals the full-size formula, bit for bit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import Config
from condinst.inference import regions as module
from condinst.inference.assemble import assemble
from condinst.inference.full_size import Placement, full_size_values
from condinst.inference.logits import draw_logits
from condinst.inference.regions import place
from condinst.inference.taps import Taps, make_taps, mix
from condinst.model.condinst import filter_layout
from condinst.ops.bitmaps.rle import Region, decode, encode
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.ops.masks import aligned_bilinear
from condinst.settings.model import MaskHeadConfig, ModelConfig
from condinst.structures import Detections, HeadOutput, Images, NetworkOutput

MODEL = ModelConfig(classes=("thing", "other"))
FILTERS = filter_layout(MODEL).count


def formula(logits: Tensor, placement: Placement) -> Tensor:
    """Logits at stride 8 → values in the original image, as published: every step at full size."""
    stride, size, original, *_ = placement
    probabilities = aligned_bilinear(logits[:, None], 8 // stride).sigmoid()
    content = aligned_bilinear(probabilities, stride)[:, :, : size[0], : size[1]]
    return F.interpolate(content, size=original, mode="bilinear", align_corners=False)[:, 0]


def maps_of(kind: str, height: int, width: int) -> Tensor:
    """(6, h, w) logits: what trained heads give (blobs), noise, hard steps with exact ties, and extremes."""
    generator = torch.Generator().manual_seed(height * width)
    if kind == "noise":
        return torch.randn(6, height, width, generator=generator) * 3
    if kind == "steps":
        return ((torch.rand(6, height, width, generator=generator) < 0.3).float() - 0.5) * 200
    if kind == "halves":
        return ((torch.rand(6, height, width, generator=generator) * 4).round() / 4 - 0.5) * 8
    if kind == "extremes":
        return (
            torch.tensor([-200.0, 200.0, 0.0, -1e-7, 2.4e-7, -1e-30])[:, None, None]
            .expand(6, height, width)
            .contiguous()
        )
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = torch.rand(6, 2, 1, 1, generator=generator) * torch.tensor([height, width])[:, None, None]
    distance = torch.hypot(y - centre[:, 0], x - centre[:, 1])
    return (torch.arange(6)[:, None, None] * 0.7 + 0.6 - distance) * 3


@pytest.mark.parametrize("kind", ["blobs", "noise", "steps", "halves", "extremes"])
@pytest.mark.parametrize(
    ("stride", "cells", "size", "original"),
    [
        (4, (16, 24), (61, 90), (122, 180)),  # twice as large, exact halves
        (4, (16, 24), (64, 96), (64, 96)),  # no resizing, no padding
        (4, (16, 24), (37, 83), (251, 501)),  # odd, up
        (4, (16, 24), (59, 95), (23, 31)),  # odd, down: some inputs are skipped
        (2, (32, 40), (63, 77), (99, 131)),
        (8, (8, 9), (57, 65), (40, 300)),  # the sides scale differently
        (8, (4, 4), (1, 32), (1, 1)),  # content of one row, an original of one pixel
        (2, (16, 16), (32, 1), (700, 3)),
    ],
)
def test_compact_equals_full_size(
    kind: str, stride: int, cells: tuple[int, int], size: tuple[int, int], original: tuple[int, int]
) -> None:
    maps = maps_of(kind, *(count * stride // 8 for count in cells))
    for threshold in (0.5, 0.3):
        placement = Placement(stride, size, original, threshold)
        expected = (formula(maps, placement) > threshold).numpy()
        found = np.stack([decode(rle) for rle in place(maps, placement)])
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("original", [(300, 260), (701, 500), (1200, 900), (256, 257), (500, 375)])
def test_close_pixels_are_settled_in_the_same_bits(original: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(4, (500, 375), original, 0.5)
    maps = maps_of("noise", 63, 47)[:2]
    expected = formula(maps, placement)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.stack([torch.randint(side, (2000,), generator=draw) for side in original], dim=1)
    for logits, values in zip(maps, expected, strict=True):
        for some in pixels.split(37):
            assert torch.equal(full_size_values(logits, placement, some), values[some[:, 0], some[:, 1]])
    monkeypatch.setattr(module, "ROUNDING", 1e-3)
    monkeypatch.setattr(module, "CLOSE_PIXELS", 10**9)
    monkeypatch.setattr(module, "place_full", None)  # not needed
    found = np.stack([decode(rle) for rle in place(maps, placement)])
    assert np.array_equal(found, (expected > 0.5).numpy())


@pytest.mark.parametrize("original", [(251, 501), (40, 31), (300, 700)])
def test_bands_change_nothing(original: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(4, (61, 90), original, 0.5)
    for kind in ("blobs", "noise", "halves", "extremes"):
        maps = maps_of(kind, 8, 12)
        monkeypatch.setattr(module, "GROUP_PIXELS", 1)  # each by itself
        monkeypatch.setattr(module, "BAND_PIXELS", 1500)
        found = np.stack([decode(rle) for rle in place(maps, placement)])
        assert np.array_equal(found, (formula(maps, placement) > 0.5).numpy())


@pytest.mark.parametrize("kind", ["one mask of all", "thin ones that cross", "a tiny picture"])
def test_numbers_at_once_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.full((1 if kind == "one mask of all" else 12, 50, 60), 3.0)
    if kind == "thin ones that cross":
        maps *= -1
        for number in range(6):
            maps[number, 20 + number], maps[6 + number, :, 20 + number] = 3, 3
    placement = Placement(4, (400, 480), (20, 24) if kind == "a tiny picture" else (2000, 2400), 0.5)
    sizes = []

    def noting(values: Tensor, taps: Taps) -> Tensor:
        mixed = mix(values, taps)
        sizes.append(mixed.numel())
        return mixed

    monkeypatch.setattr(module, "mix", noting)
    monkeypatch.setattr(module, "GROUP_PIXELS", 2**16)
    monkeypatch.setattr(module, "BAND_PIXELS", 2**18)
    found = place(maps, placement)
    assert max(sizes) <= 2**18 + 2400
    assert [rle["counts"] for rle in found] == [
        encode(Region(mask, 0, 0), *placement.original)["counts"]
        for mask in (formula(one[None], placement)[0].numpy() > 0.5 for one in maps)
    ]


def test_taps_are_a_convex_mix() -> None:
    taps = make_taps(20, 4, 77, 131)
    assert (taps.weights >= 0).all()
    assert torch.allclose(taps.weights.sum(dim=1), torch.ones(131), atol=1e-6)
    assert (taps.start.diff() >= 0).all()
    assert taps.weights.shape[1] <= 4


def one_image(detections: Detections, seed: int = 0) -> tuple[NetworkOutput, Images]:
    features = torch.randn(1, 8, 8, 12, generator=torch.Generator().manual_seed(seed))
    head = HeadOutput((), (), (), ())
    return NetworkOutput(head, features, None), Images(torch.zeros(1, 3, 64, 96), ((60, 90),), ((121, 175),))


def detections_of(boxes: Tensor, seed: int = 1) -> Detections:
    count = len(boxes)
    generator = torch.Generator().manual_seed(seed)
    return Detections(
        boxes,
        torch.linspace(0.9, 0.5, count),
        torch.arange(count) % 2,
        torch.rand(count, 2, generator=generator) * 60,
        torch.arange(count) % 3,
        torch.randn(count, FILTERS, generator=generator),
    )


@pytest.mark.parametrize("mask_out_stride", [8, 4, 2])
def test_masks_are_the_formula_and_never_cut_to_the_box(mask_out_stride: int) -> None:
    model = MODEL.model_copy(update={"mask_head": MaskHeadConfig(mask_out_stride=mask_out_stride)})  # type: ignore[arg-type]
    found = detections_of(torch.tensor([[10.0, 10, 14, 14]]).repeat(7, 1))
    output, images = one_image(found)
    (result,) = assemble(output, [found], images, draw_logits, Config(model=model))
    logits = dynamic_mask_head(
        output.mask_features,
        found.filters,
        torch.zeros(7, dtype=torch.long),
        found.locations,
        torch.tensor([64.0, 128, 256])[found.levels],
        filter_layout(model),
        "relative",
        8,
    )
    expected = formula(logits, Placement(mask_out_stride, (60, 90), (121, 175), 0.5)) > 0.5
    assert torch.equal(result.masks.data, expected)
    outside = result.masks.data.clone()
    outside[:, 18:31, 18:30] = False
    assert outside.any()


def test_boxes_are_scaled_clipped_and_dropped_when_empty() -> None:
    boxes = torch.tensor([[-5.0, -5, 45, 30], [100, 10, 120, 20], [10, 10, 10, 40], [0, 0, 90, 60]])
    found = detections_of(boxes)
    output, images = one_image(found)
    (result,) = assemble(output, [found], images, draw_logits, Config(model=MODEL))
    expected = torch.tensor([[0, 0, 87.5, 60.5], [0, 0, 175, 121]])
    assert torch.allclose(result.boxes.xyxy, expected, atol=1e-4)
    assert result.boxes.conf.tolist() == found.scores[[0, 3]].tolist()
    assert result.boxes.cls.tolist() == [0, 1]
    assert len(result.masks) == 2
    assert result.names == {0: "thing", 1: "other"}


def test_zero_instances() -> None:
    found = detections_of(torch.zeros(0, 4))
    output, images = one_image(found)
    (result,) = assemble(output, [found], images, draw_logits, Config(model=MODEL))
    assert len(result) == 0
    assert result.masks.data.shape == (0, 121, 175)
    assert place(torch.zeros(0, 4, 4), Placement(8, (30, 30), (10, 10), 0.5)) == []


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = detections_of(torch.tensor([[5.0, 5, 50, 50]]).repeat(9, 1))
    output, images = one_image(found)
    (whole,) = assemble(output, [found], images, draw_logits, Config(model=MODEL))
    monkeypatch.setattr("condinst.inference.logits.NUMBERS_AT_ONCE", 1)
    (single,) = assemble(output, [found], images, draw_logits, Config(model=MODEL))
    for one, other in zip(whole.masks.data, single.masks.data, strict=True):
        assert (one != other).sum() <= 2  # another matrix shape may round differently
