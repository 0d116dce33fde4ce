"""The anchors of YOLACT and the boxes that its head predicts from them (arXiv 1904.02689, §3 and §6.1).

Shapes: L anchors over all levels, P3 first. On a level they are ordered by row, by column and then by ratio. Boxes are
xyxy in pixels of the padded input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The published input has 550 pixels on each side, and these are the cells along each side of its levels P3–P7. They are
# constants of the method: on another input, the anchors keep their sizes and their distances.
INPUT, CELLS = 550, (69, 35, 18, 9, 5)
SIDES = (24, 48, 96, 192, 384)  # side of the square anchor of each level, in pixels
RATIOS = (0.5, 1.0, 2.0)  # height / width
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)  # of the deltas
MOST_GROWTH = abs(math.log(0.016))  # largest change of a side, as a logarithm


def make_anchors(sizes: list[tuple[int, int]], device: torch.device | None = None) -> Tensor:
    """The anchors (L, 4) float32 of levels with the sizes (h, w), P3 first. Anchors may reach outside the input."""
    levels = zip(sizes, CELLS, SIDES, strict=True)
    return torch.cat([_level_anchors(*size, INPUT / cells, side, device) for size, cells, side in levels])


def _level_anchors(height: int, width: int, stride: float, side: float, device: torch.device | None) -> Tensor:
    roots = torch.tensor(RATIOS).sqrt()
    widths, heights = side * (1 / roots), side * roots
    half = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    first = stride / 2 + half  # of the cell in the top left corner
    x, y = (torch.arange(count) * stride for count in (width, height))
    places = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1).repeat(1, 1, 2)
    return (places[:, :, None] + first).reshape(-1, 4).to(device)


def encode_boxes(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The deltas (…, 4) that move anchors (…, 4) to boxes (…, 4): dx, dy, dw and dh over their deviations."""
    sides, wanted = anchors[..., 2:] - anchors[..., :2], boxes[..., 2:] - boxes[..., :2]
    moves = ((boxes[..., :2] + boxes[..., 2:]) - (anchors[..., :2] + anchors[..., 2:])) / 2 / sides
    return torch.cat((moves, (wanted / sides).log()), dim=-1) / anchors.new_tensor(DEVIATIONS)


def decode_boxes(anchors: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes (…, 4) of anchors (…, 4) with deltas (…, 4), clipped to an input of `size` (height, width)."""
    dx, dy, dw, dh = (deltas * anchors.new_tensor(DEVIATIONS)).unbind(-1)
    moves, growth = torch.stack((dx, dy), dim=-1), torch.stack((dw, dh), dim=-1).clamp(-MOST_GROWTH, MOST_GROWTH)
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2 + sides * moves
    half = sides * growth.exp() / 2
    boxes = torch.cat((centres - half, centres + half), dim=-1)
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([size[1], size[0]]).repeat(2))
