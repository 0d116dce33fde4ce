"""A short program that runs an exported model without condinst."""

from __future__ import annotations

from condinst.config import Config
from condinst.export.names import ONNX_FILE, OPENVINO_FILE
from condinst.structures import MASK_FEATURE_STRIDE

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


def make_example(config: Config, openvino: bool, fixed: tuple[int, int] | None) -> str:
    """The text of example.py: read a picture, run the program, write a picture for each mask."""
    model, size = config.model, config.input
    stride = model.mask_head.mask_out_stride
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


def weights(cells, factor):  # of a bilinear enlargement: row factor * i + factor // 2 shows cell i
    places = ((np.arange(cells * factor) - factor // 2) / factor).clip(0, cells - 1)
    return np.maximum(0, 1 - abs(places[:, None] - np.arange(cells))).astype(np.float32)


def enlarge(mask, factor):
    return weights(mask.shape[0], factor) @ mask @ weights(mask.shape[1], factor).T


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
    probability = 1 / (1 + np.exp(-enlarge(logits[0, k], {MASK_FEATURE_STRIDE // stride}).clip(-50, 50)))
    mask = Image.fromarray(enlarge(probability, {stride})[: small.height, : small.width])
    mask = np.asarray(mask.resize(picture.size, Image.Resampling.BILINEAR)) > {config.detect.mask_threshold}
    Image.fromarray(mask).save(f"mask_{{k}}.png")
    print(f"mask_{{k}}.png", names[labels[0, k]], scores[0, k].round(3), (boxes[0, k] / scale).round(1))
'''
