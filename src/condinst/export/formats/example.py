"""A short program that runs an exported model without condinst."""

from __future__ import annotations

import math

from condinst.config import Config
from condinst.export.names import ONNX_FILE, OPENVINO_FILE

FIRST_WORDS = '"""Run: python example.py photo.jpg. Needs '
ONNX_LINES = (
    "import onnxruntime",
    f'run = onnxruntime.InferenceSession("{ONNX_FILE}").run',
    'boxes, scores, labels, count, logits = run(None, {"images": images})',
)
OPENVINO_LINES = (
    "import openvino",
    f'compiled = openvino.compile_model("{OPENVINO_FILE}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
    "boxes, scores, labels, count, logits = (compiled(images)[output] for output in compiled.outputs)",
)


def mask_limit(config: Config) -> float:
    """The logit above which a pixel belongs to the mask."""
    threshold = config.detect.mask_threshold
    return math.log(threshold / (1 - threshold))


def make_example(config: Config, openvino: bool, fixed: tuple[int, int] | None) -> str:
    """The text of example.py: read a picture, run the program, write a picture for each mask."""
    model, size = config.model, config.input
    package = "openvino" if openvino else "onnxruntime"
    library, start, run = OPENVINO_LINES if openvino else ONNX_LINES
    order = "" if model.channel_order == "RGB" else "[:, :, ::-1]"
    if fixed is None:
        scale = f"min({size.shorter} / min(picture.size), {size.longer} / max(picture.size))"
        pad = f"[-side % {model.size_divisor} for side in pixels.shape[:2]]"
    else:
        scale = f"min({fixed[1]} / picture.width, {fixed[0]} / picture.height)"
        pad = f"[{fixed[0]} - pixels.shape[0], {fixed[1]} - pixels.shape[1]]"
    return f'''{FIRST_WORDS}{package}, numpy and pillow, and no condinst."""

import sys

import numpy as np
{library}
from PIL import Image

names = {list(model.classes)!r}
picture = Image.open(sys.argv[1]).convert("RGB")
scale = {scale}
small = picture.resize([max(1, round(scale * side)) for side in picture.size], Image.Resampling.BILINEAR)
mean, deviation = np.float32({list(model.pixel_mean)}), np.float32({list(model.pixel_std)})
pixels = (np.asarray(small, np.float32){order} - mean) / deviation
below, right = {pad}  # zeros, after the colours are normalised
images = np.ascontiguousarray(np.pad(pixels, ((0, below), (0, right), (0, 0))).transpose(2, 0, 1)[None])
{start}
{run}
for k in range(int(count[0])):
    if scores[0, k] < 0.5:
        continue
    mask = Image.fromarray(logits[0, k]).resize((images.shape[3], images.shape[2]), Image.Resampling.BILINEAR)
    mask = mask.crop((0, 0, *small.size)).resize(picture.size, Image.Resampling.BILINEAR)
    Image.fromarray(np.asarray(mask) > {mask_limit(config):.6g}).save(f"mask_{{k}}.png")
    print(f"mask_{{k}}.png", names[labels[0, k]], scores[0, k].round(3), (boxes[0, k] / scale).round(1))
'''
