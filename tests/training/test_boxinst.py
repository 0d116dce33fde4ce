"""Pairs of similar colour and the pairwise loss against float64 loops and hand-worked values."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from condinst.ops.colours import rgb_to_lab
from condinst.settings.model import ModelConfig
from condinst.settings.training import BoxSupervisionConfig
from condinst.structures import ColourPairs, Images
from condinst.training.boxinst import find_pairs, pairwise_loss

PLAIN = {"pixel_mean": (0, 0, 0), "pixel_std": (1, 1, 1)}
RING = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def model_with(stride: int = 4, **settings: object) -> ModelConfig:
    return ModelConfig.model_validate(PLAIN | {"mask_head": {"mask_out_stride": stride}} | settings)


def picture(*sizes: tuple[int, int], side: int = 32, originals: tuple[tuple[int, int], ...] | None = None) -> Images:
    """Whole numbers, dark and of few shades, so that some neighbours look alike and others do not."""
    generator = torch.Generator().manual_seed(7)
    tensor = torch.zeros(len(sizes), 3, side, side)
    for content, (height, width) in zip(tensor, sizes, strict=True):
        coarse = torch.randint(0, 3, (1, height // 4 + 1, width // 4 + 1), generator=generator) * 2.0
        fine = torch.randint(0, 7, (3, height, width), generator=generator)
        shades = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
        content[:, :height, :width] = shades + fine + 60
    return Images(tensor, sizes, originals or sizes)


def plain_loss(
    images: Images, stride: int, config: BoxSupervisionConfig, logits: Tensor, boxes: Tensor, image_index: Tensor
) -> tuple[float, int]:
    """Mean over ordered pairs (pixel, neighbour), and how many there are."""
    total, count = 0.0, 0
    for mask, box, image in zip(logits.double().tolist(), boxes.tolist(), image_index.tolist(), strict=True):
        (height, width), original = images.sizes[image], images.original_sizes[image]
        lowest = height - int(config.bottom_pixels * height / original[0])
        rows, columns = len(mask), len(mask[0])
        pixels = images.tensor[image].double().numpy()
        colour = np.zeros((rows, columns, 3))
        for v, u in np.ndindex(rows, columns):
            cell = pixels[:, v * stride : (v + 1) * stride, u * stride : (u + 1) * stride]
            whole = torch.from_numpy(cell.mean(axis=(1, 2)).astype(int)).double()
            colour[v, u] = rgb_to_lab(whole[None, :, None, None]).flatten().numpy()
        for v, u in np.ndindex(rows, columns):
            for down, right in RING:
                y, x = v + down * config.dilation, u + right * config.dilation
                if not box[v][u] or not (0 <= y < rows and 0 <= x < columns):
                    continue
                if not (y * stride + stride // 2 < lowest and x * stride + stride // 2 < width):
                    continue
                if math.exp(-math.dist(colour[v, u], colour[y, x]) / 2) < config.similarity:
                    continue
                p, q = (1 / (1 + math.exp(-logit)) for logit in (mask[v][u], mask[y][x]))
                total, count = total - math.log(p * q + (1 - p) * (1 - q)), count + 1
    return total / max(count, 1), count


def make_masks(count: int, size: int, images: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, size, size, generator=generator, dtype=torch.float64) * 3
    boxes = torch.zeros(count, size, size, dtype=torch.bool)
    for box in boxes:
        y, x = torch.randint(0, size - 2, (2,), generator=generator).tolist()
        box[y : y + size // 2, x : x + size // 3 + 1] = True
    return logits, boxes, torch.arange(count) % images


def counted(pairs: ColourPairs, boxes: Tensor, image_index: Tensor) -> int:
    """How many ordered pairs (pixel in the box, neighbour) count."""
    total = 0
    for box, image in zip(boxes, image_index.tolist(), strict=True):
        for direction, (down, right) in enumerate(pairs.steps):
            for v, u in pairs.from_here[image, direction].nonzero().tolist():
                total += int(box[v, u])
            for v, u in pairs.from_there[image, direction].nonzero().tolist():
                total += int(box[v + down, u + right])
    return total


@pytest.mark.parametrize(
    ("stride", "settings"),
    [
        (4, {}),
        (4, {"dilation": 1, "similarity": 0.5, "bottom_pixels": 3}),
        (2, {"dilation": 3, "bottom_pixels": 0}),
        (8, {"similarity": 0.6, "dilation": 1}),
    ],
)
def test_loops_agree(stride: int, settings: dict[str, float]) -> None:
    """Two pictures with padding, the first shrunk to less than half, so that its bottom is fewer rows."""
    config = BoxSupervisionConfig.model_validate(settings)
    images = picture((30, 26), (32, 19), originals=((64, 55), (32, 19)))
    pairs = find_pairs(images, model_with(stride), config)
    logits, boxes, image_index = make_masks(5, 32 // stride, 2)
    expected, count = plain_loss(images, stride, config, logits, boxes, image_index)
    assert counted(pairs, boxes, image_index) == count > 10
    assert pairwise_loss(logits, boxes, image_index, pairs).item() == pytest.approx(expected, rel=1e-9)
    anything = config.model_copy(update={"similarity": 0})
    assert count < counted(find_pairs(images, model_with(stride), anything), boxes, image_index)


def test_bottom_and_padding_by_hand() -> None:
    """One colour throughout: a pair counts where its other pixel is shown. Ten of 64 rows are five of 32."""
    images = Images(torch.full((1, 3, 32, 32), 90.0), ((32, 24),), ((64, 48),))
    pairs = find_pairs(images, model_with(), BoxSupervisionConfig(dilation=1))
    whole = torch.ones(1, 8, 8, dtype=torch.bool)
    # centres of rows are 2, 6 … 26, 30 and of columns 2 … 22, 26, 30: shown are 7 rows (26 < 27) and 6 columns
    right, down = pairs.steps.index((0, 1)), pairs.steps.index((1, 0))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:7, :5] = True  # not (5, 6): the padding is black
    assert torch.equal(pairs.from_here[0, right], expected)
    assert torch.equal(pairs.from_there[0, right], expected)
    expected[:, 5] = True
    expected[6:] = False  # row 7 is not shown to row 6
    assert torch.equal(pairs.from_here[0, down] & (torch.arange(8) < 6), expected)
    expected[6, :6] = True  # but row 6 is shown to row 7
    assert torch.equal(pairs.from_there[0, down], expected)
    inside = 7 * 5 + 6 * 6 + 2 * 6 * 5  # to the right, down, and down to both sides
    from_row_7 = 6 + 2 * 5  # up, and up to both sides
    assert counted(pairs, whole, torch.tensor([0])) == 2 * inside + from_row_7


def test_similarity_by_hand() -> None:
    """Two halves drift apart in lightness: they are alike up to a difference of −2 ln 0.3 = 2.408."""
    shades = torch.arange(256.0)[None, None, None, :].expand(1, 3, 1, 256)
    lightness = rgb_to_lab(shades.double())[0, 0, 0]
    dark = 100
    for shade in range(dark + 1, dark + 12):
        tensor = torch.full((1, 3, 32, 32), float(dark))
        tensor[..., 16:] = shade
        images = Images(tensor, ((32, 32),), ((32, 32),))
        pairs = find_pairs(images, model_with(), BoxSupervisionConfig(dilation=1, bottom_pixels=0))
        assert pairs.from_here[0, 0, 0, 3].item() == (lightness[shade] - lightness[dark] <= 2.408)
    assert lightness[dark + 1] - lightness[dark] < 2.408 < lightness[shade] - lightness[dark]


def test_colours_are_cut_to_whole_numbers() -> None:
    """A cell of 100.94 on average counts as 100, so it is its neighbours' equal; one of 101 is not."""
    tensor = torch.full((1, 3, 32, 32), 100.0)
    tensor[..., 16:20] = 101
    tensor[..., 16::4, 16] = 100  # a column of cells of mean 100.9375
    images = Images(tensor, ((32, 32),), ((32, 32),))
    config = BoxSupervisionConfig(dilation=1, bottom_pixels=0, similarity=1)
    to_the_right = find_pairs(images, model_with(), config).from_here[0, 0]
    assert to_the_right[4:, :7].all()
    assert not to_the_right[0, 3]


def test_normalisation_and_channel_order_do_not_matter() -> None:
    images = picture((30, 26), (32, 19))
    expected = find_pairs(images, model_with(), BoxSupervisionConfig())
    mean, std = (103.53, 116.28, 123.675), (58.395, 57.12, 57.375)
    columns = (torch.tensor(values)[:, None, None] for values in (mean, std))
    tensor = images.tensor.flip(1)
    for content, (height, width) in zip(tensor, images.sizes, strict=True):
        content[:, height:] = content[:, :, width:] = float("nan")
    tensor = ((tensor - next(columns)) / next(columns)).nan_to_num(0)
    config = model_with(channel_order="BGR", pixel_mean=mean, pixel_std=std)
    found = find_pairs(images._replace(tensor=tensor), config, BoxSupervisionConfig())
    assert torch.equal(found.from_here, expected.from_here)
    assert torch.equal(found.from_there, expected.from_there)
    assert found.from_here.any()


def test_colours_survive_normalisation() -> None:
    """Plain cells beside those that mix two shades of the same mean: 99.9999 in one of them would count as 99."""
    shades = torch.arange(20, 84.0).repeat_interleave(4)
    plain, mixed = shades.expand(3, 4, 256), shades + torch.tensor([2.0, -2, 5, -5])[:, None]
    tensor = torch.cat((plain, mixed.expand(3, 4, 256)), dim=1).repeat(1, 4, 1)[None]
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    columns = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    images = Images((tensor - columns[0]) / columns[1], ((32, 256),), ((32, 256),))
    config = BoxSupervisionConfig(dilation=1, bottom_pixels=0, similarity=1)
    pairs = find_pairs(images, model_with(pixel_mean=mean, pixel_std=std), config)
    downwards = pairs.steps.index((1, 0))
    assert pairs.from_here[0, downwards, :7].all()


def test_autocast_sees_the_same_pairs() -> None:
    images = picture((32, 32))
    expected = find_pairs(images, model_with(), BoxSupervisionConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = find_pairs(images, model_with(), BoxSupervisionConfig())
    assert torch.equal(found.from_here, expected.from_here)


def test_mirrored() -> None:
    images = picture((32, 32), originals=((64, 64),))
    logits, boxes, image_index = make_masks(4, 8, 1)
    config = BoxSupervisionConfig()
    loss = pairwise_loss(logits, boxes, image_index, find_pairs(images, model_with(), config))
    mirrored = find_pairs(images._replace(tensor=images.tensor.flip(3)), model_with(), config)
    assert loss.item() == pytest.approx(pairwise_loss(logits.flip(2), boxes.flip(2), image_index, mirrored).item())


def test_gradients() -> None:
    images = picture((32, 32))
    pairs = find_pairs(images, model_with(8), BoxSupervisionConfig(similarity=0.1, bottom_pixels=0))
    logits, boxes, image_index = make_masks(2, 4, 1)
    assert counted(pairs, boxes, image_index) > 5
    assert gradcheck(lambda x: pairwise_loss(x, boxes, image_index, pairs), logits.requires_grad_())


def test_far_out_logits() -> None:
    """Masks certain of everything: a finite loss and gradient in float32."""
    images = picture((32, 32))
    pairs = find_pairs(images, model_with(), BoxSupervisionConfig())
    _, boxes, image_index = make_masks(2, 8, 1)
    logits = ((torch.arange(128).reshape(2, 8, 8) * 7 % 5 - 2) * 1e4).float().requires_grad_()
    loss = pairwise_loss(logits, boxes, image_index, pairs)
    loss.backward()
    assert 0 < loss.item() < 1e5
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


@pytest.mark.parametrize("dilation", [2, 9])
def test_nothing_to_compare(dilation: int) -> None:
    """No positive, no pair of one colour, a picture whose bottom is all of it, neighbours off the map: zero."""
    config = BoxSupervisionConfig(dilation=dilation)
    for images in (picture((32, 32)), picture((32, 32), originals=((8, 8),))):
        pairs = find_pairs(images, model_with(), config)
        for count in (0, 2):
            logits = torch.randn(count, 8, 8, requires_grad=True)
            boxes = torch.full((count, 8, 8), count == 2 and (dilation == 9 or images.original_sizes == ((8, 8),)))
            loss = pairwise_loss(logits, boxes, torch.zeros(count, dtype=torch.int64), pairs)
            assert loss.item() == 0
            loss.backward()
            assert logits.grad is not None
            assert not logits.grad.any()
