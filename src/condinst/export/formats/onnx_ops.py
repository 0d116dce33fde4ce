"""Operations that PyTorch's ONNX exporter does not know, written in ONNX.

PyTorch records the functions of this file, so their statements are ONNX operations. `op` is ONNX's operation set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset19

op: Any = opset19  # untyped, because its types refuse the Python numbers that it accepts
OPSET = 19  # the first with DeformConv


def keep_boxes(boxes: Any, scores: Any, labels: Any, threshold: float, classes: int) -> Any:
    """`condinst.inference.select.keep_boxes` with NonMaxSuppression.

    The operation treats classes separately, so the boxes need no shift. It compares IoUs in float32.
    """
    every = op.Constant(value_ints=list(range(classes)))
    own = op.Equal(op.Unsqueeze(labels, [1]), op.Unsqueeze(every, [0, 2]))
    scores_of_classes = op.Where(own, op.Unsqueeze(scores, [1]), op.Constant(value_float=-1.0))  # (N, C, K)
    most = op.Gather(op.Shape(scores), [1])
    chosen = op.NonMaxSuppression(
        boxes, scores_of_classes, most, op.Constant(value_floats=[threshold]), op.Constant(value_floats=[-0.5])
    )  # rows of image, class, box
    places = op.Gather(chosen, [0, 2], axis=1)
    ones = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(places, start=0, end=1))
    return op.Greater(op.ScatterND(op.ConstantOfShape(op.Shape(scores)), places, ones), op.Constant(value_float=0.5))


def deform_conv2d(
    images: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    """torchvision's deformable convolution with DeformConv."""
    return op.DeformConv(
        images,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
        pads=[pad_h, pad_w, pad_h, pad_w],
        strides=[stride_h, stride_w],
    )


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """PyTorch operation → its translation, for `torch.onnx.export`."""
    return {
        torch.ops.condinst.keep_boxes.default: keep_boxes,
        torch.ops.torchvision.deform_conv2d.default: deform_conv2d,
    }
