"""Box arithmetic against hand-worked values."""

import math

import torch
from torch.autograd import gradcheck

from condinst.ops.boxes import (
    boxes_from_distances,
    centerness,
    clip_boxes,
    distances_to_boxes,
    intersection_and_union,
    scale_boxes,
)


def test_distances_by_hand() -> None:
    locations = torch.tensor([[10.0, 20.0], [0.0, 0.0]])
    boxes = torch.tensor([[4.0, 5.0, 11.0, 40.0]])
    assert distances_to_boxes(locations[:, None], boxes).tolist() == [[[6, 15, 1, 20]], [[-4, -5, 11, 40]]]
    assert distances_to_boxes(locations[:, None], boxes[:0]).shape == (2, 0, 4)


def test_distances_lead_back_to_the_boxes() -> None:
    locations, corners = torch.rand(7, 2) * 100, torch.rand(5, 4) * 100
    back = boxes_from_distances(locations[:, None], distances_to_boxes(locations[:, None], corners))
    assert torch.allclose(back, corners.expand(7, 5, 4), atol=1e-4)


def test_intersection_and_union_by_hand() -> None:
    """Two that overlap, the same, one apart in both directions, one without an area."""
    one = torch.tensor([[0.0, 0, 4, 2], [8.0, 8, 9, 9]])
    other = torch.tensor([[1.0, 1, 5, 5], [0.0, 0, 4, 2], [6.0, 4, 7, 5], [3.0, 1, 3, 9]])
    intersection, union = intersection_and_union(one[:, None], other)
    assert intersection.tolist() == [[3, 8, 0, 0], [0, 0, 0, 0]]
    assert union.tolist() == [[21, 8, 9, 8], [17, 9, 2, 1]]
    assert intersection_and_union(one[:0, None], other)[0].shape == (0, 4)


def test_centerness_by_hand() -> None:
    distances = torch.tensor([[2.0, 3, 2, 3], [1, 2, 3, 2], [4, 1, 4, 4], [1, 1, 4, 9], [0.5, 8, 2, 2]])
    expected = [1, math.sqrt(1 / 3), 0.5, math.sqrt(1 / 36), 0.25]
    assert torch.allclose(centerness(distances), torch.tensor(expected))
    assert centerness(torch.empty(2, 0, 4)).shape == (2, 0)


def test_centerness_gradient() -> None:
    distances = torch.rand(6, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda d: centerness(d + 0.1), distances)


def test_scale_boxes_by_hand() -> None:
    """From 50 rows and 100 columns to 100 and 300: x three times, y twice, then clipped."""
    boxes = torch.tensor([[10.0, 10, 20, 20], [-5, -5, 120, 60], [99, 49, 100, 50]])
    scaled = scale_boxes(boxes, (50, 100), (100, 300))
    assert scaled.tolist() == [[30, 20, 60, 40], [-15, -10, 360, 120], [297, 98, 300, 100]]
    assert clip_boxes(scaled, (100, 300)).tolist() == [[30, 20, 60, 40], [0, 0, 300, 100], [297, 98, 300, 100]]
    assert scale_boxes(boxes[:0], (50, 100), (100, 300)).shape == (0, 4)
