"""Masks from boxes alone (BoxInst, arXiv 2012.02310): neighbouring pixels of similar colour get similar mask values.

Shapes: N images, K positives, D directions, h×w the mask at mask_out_stride.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.colours import rgb_to_lab
from condinst.ops.losses import disagreement
from condinst.settings.model import ModelConfig
from condinst.settings.training import BoxSupervisionConfig
from condinst.structures import ColourPairs, Images

HALF_RING = ((0, 1), (1, -1), (1, 0), (1, 1))  # (down, right); each pair of neighbours occurs once


def find_pairs(images: Images, model: ModelConfig, config: BoxSupervisionConfig) -> ColourPairs:
    """Find the pairs of neighbouring mask pixels with similar colours. Each pair occurs once.

    A pair counts for one of its pixels only if the other pixel shows the picture. Pixels in the padding and in the
    lowest `bottom_pixels` rows of the original picture do not.
    """
    stride, reach = model.mask_head.mask_out_stride, config.dilation
    lab = rgb_to_lab(_pool_colours(images, model, stride))
    shown = _shown(images, config.bottom_pixels)[:, stride // 2 :: stride, stride // 2 :: stride]
    steps = tuple((reach * down, reach * right) for down, right in HALF_RING)
    from_here, from_there = (shown.new_zeros(len(shown), len(steps), *shown.shape[1:]) for _ in range(2))
    for direction, step in enumerate(steps):
        here, there = _neighbours(lab, *step)
        alike = torch.exp(-(here - there).norm(dim=1) / 2) >= config.similarity
        here_shown, there_shown = _neighbours(shown, *step)
        _neighbours(from_here[:, direction], *step)[0].copy_(alike & there_shown)
        _neighbours(from_there[:, direction], *step)[0].copy_(alike & here_shown)
    return ColourPairs(steps, from_here, from_there)


def pairwise_loss(logits: Tensor, boxes: Tensor, image_index: Tensor, pairs: ColourPairs) -> Tensor:
    """The mean disagreement over the pairs that count: a scalar, 0 without pairs.

    logits: (K, h, w). boxes: (K, h, w) bool, the filled boxes. image_index: (K,) int64, the image of each positive.

    A pair inside a box counts twice, once for each of its pixels. A pair with one pixel in the box counts once. The
    function computes the loss of these pairs only, because most pixels lie in no box.
    """
    ends, times = [], []
    for direction, (down, right) in enumerate(pairs.steps):
        from_here = boxes & pairs.from_here[image_index, direction]
        # pixels that roll over the edge are in no pair: from_there is False for them
        from_there = boxes.roll((-down, -right), dims=(1, 2)) & pairs.from_there[image_index, direction]
        both = (from_here.to(torch.uint8) + from_there).flatten()
        here = both.nonzero()[:, 0]
        ends.append(torch.stack((here, here + down * logits.shape[2] + right)))
        times.append(both[here])
    one, other = (logits.flatten().index_select(0, end) for end in torch.cat(ends, dim=1))
    weight = torch.cat(times)
    return (disagreement(one, other) * weight).sum() / weight.sum().clamp(min=1)


def _neighbours(maps: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Two views of maps (…, h, w): a pixel and its neighbour `down` rows and `right` columns on have one index."""
    height, width = maps.shape[-2:]
    rows, columns = max(height - down, 0), max(width - abs(right), 0)
    here, there = max(-right, 0), max(right, 0)
    return maps[..., :rows, here : here + columns], maps[..., down : down + rows, there : there + columns]


def _pool_colours(images: Images, model: ModelConfig, stride: int) -> Tensor:
    """The images at mask resolution: (N, 3, h, w) RGB, whole numbers in [0, 255] as published. The padding is black."""
    mean, std = (images.tensor.new_tensor(values)[:, None, None] for values in (model.pixel_mean, model.pixel_std))
    pixels = (images.tensor.float() * std + mean).round() * _shown(images, 0)[:, None]
    pooled = F.avg_pool2d(pixels, stride).floor()
    return pooled if model.channel_order == "RGB" else pooled.flip(1)


def _shown(images: Images, bottom_pixels: int) -> Tensor:
    """(N, H, W) bool: False in the padding and in the lowest `bottom_pixels` rows of each original picture."""
    shown = torch.zeros_like(images.tensor[:, 0], dtype=torch.bool)
    for content, (height, width), original in zip(shown, images.sizes, images.original_sizes, strict=True):
        content[: max(height - bottom_pixels * height // original[0], 0), :width] = True
    return shown
