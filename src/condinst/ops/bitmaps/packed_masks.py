"""Packed masks: each mask is stored inside its bounding rectangle, so memory grows with the objects, not the picture.

M masks (h, w) at one stride become two tensors. pixels: (P,) bool, the pixels of all rectangles one after the other,
each row by row. places: (M, 4) int64, the (x, y, width, height) of each rectangle in mask pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

LINES_AT_ONCE = 2**13  # rows of rectangles; the indices of their pixels need 8 times the memory of the masks


def pack(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pack masks (M, h, w) bool into (pixels, places). An empty mask gets an empty rectangle."""
    parts, places = [masks.new_zeros(0)], []
    for mask in masks:
        rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
        if not rows:
            places.append((0, 0, 0, 0))
            continue
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        parts.append(part.flatten())
        places.append((columns[0], rows[0], part.shape[1], part.shape[0]))
    return torch.cat(parts), torch.tensor(places, dtype=torch.int64, device=masks.device).reshape(-1, 4)


def unpack(pixels: Tensor, places: Tensor, chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """Unpack the masks of the instances `chosen` (K,) int64: (K, *size) bool, with size (height, width).

    `chosen` may name an instance several times.
    """
    which, copies = torch.unique(chosen, return_inverse=True)  # several positives may share one instance
    drawn = torch.zeros((len(which), *size), dtype=torch.bool, device=pixels.device)
    source, target, width = _lines(places, which, size)
    parts = (torch.split(line, LINES_AT_ONCE) for line in (source, target, width))
    for begins, goes_to, lengths in zip(*parts, strict=True):
        step = torch.arange(int(lengths.sum()), device=pixels.device)
        before = lengths.cumsum(0) - lengths
        at = step + (goes_to - before).repeat_interleave(lengths)
        drawn.view(-1)[at] = pixels[step + (begins - before).repeat_interleave(lengths)]
    return drawn[copies]


def _lines(places: Tensor, which: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """For each row of the rectangles `which`: its start in `pixels`, its start in the unpacked masks, and its width."""
    areas = places[:, 2] * places[:, 3]
    x, y, width, height = places[which].unbind(1)
    owner = torch.arange(len(which), device=places.device).repeat_interleave(height)
    line = torch.arange(len(owner), device=places.device) - (height.cumsum(0) - height)[owner]
    source = (areas.cumsum(0) - areas)[which][owner] + line * width[owner]
    target = (owner * size[0] + y[owner] + line) * size[1] + x[owner]
    return source, target, width[owner]
