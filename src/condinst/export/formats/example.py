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
# The three parts that depend on `Geometry.enlarging`: functions, what is computed once, and a mask from logits
ALIGNED_FUNCTIONS = """
def weights(cells, factor):  # of a bilinear enlargement: row factor * i + factor // 2 shows cell i
    places = ((np.arange(cells * factor) - factor // 2) / factor).clip(0, cells - 1)
    return np.maximum(0, 1 - abs(places[:, None] - np.arange(cells))).astype(np.float32)


def enlarge(mask, factor):
    return weights(mask.shape[0], factor) @ mask @ weights(mask.shape[1], factor).T
"""
BILINEAR_FUNCTIONS = """
def weights(cells, length):  # of a bilinear resize from cells to length
    places = ((np.arange(length) + 0.5) * cells / length - 0.5).clip(0, cells - 1)
    return np.maximum(0, 1 - abs(places[:, None] - np.arange(cells))).astype(np.float32)
"""


def make_example(config: Config, openvino: bool, fixed: tuple[int, int] | None) -> str:
    """The text of example.py: read a picture, run the program, write a picture for each mask."""
    package = "openvino" if openvino else "onnxruntime"
    library, start, run = OPENVINO_LINES if openvino else ONNX_LINES
    aligned = config.model.geometry.enlarging == "aligned"
    functions = ALIGNED_FUNCTIONS if aligned else BILINEAR_FUNCTIONS
    once, mask = _aligned_mask(config) if aligned else _bilinear_mask(config)
    return f'''{FIRST_WORDS}{package}, numpy and pillow, and no condinst."""

import sys

import numpy as np
{library}
from PIL import Image

{functions}

names = {list(config.model.classes)!r}
picture = Image.open(sys.argv[1]).convert("RGB")
{_preparation(config, fixed)}
{start}
{run}
{once}for k in range(int(count[0])):
    if scores[0, k] < 0.5:
        continue
{mask}
    Image.fromarray(mask).save(f"mask_{{k}}.png")
    print(f"mask_{{k}}.png", names[labels[0, k]], scores[0, k].round(3), (boxes[0, k] / scale).round(1))
'''


def _preparation(config: Config, fixed: tuple[int, int] | None) -> str:
    """From `picture` to `images`; also `scale` and `small`, the resized picture."""
    model, size = config.model, config.input
    order = "" if model.channel_order == "RGB" else "[:, :, ::-1]"
    if fixed is None:
        scale = f"min({size.shorter} / min(picture.size), {size.longer} / max(picture.size))"
        least = size.longer if size.letterbox else 0
        pad = f"[max(side, {least}) - side for side in pixels.shape[:2]]" if least else ""
        pad = pad or f"[-side % {model.size_divisor} for side in pixels.shape[:2]]"
    else:
        scale = f"min({fixed[1]} / picture.width, {fixed[0]} / picture.height)"
        pad = f"[{fixed[0]} - pixels.shape[0], {fixed[1]} - pixels.shape[1]]"
    if size.resampling == "pillow":
        resize = "picture.resize(sides, Image.Resampling.BILINEAR)"
    else:  # a transform mixes four pixels, as OpenCV's resize does
        steps = "(picture.width / sides[0], 0, 0, 0, picture.height / sides[1], 0)"
        resize = f"picture.transform(sides, Image.Transform.AFFINE, {steps}, Image.Resampling.BILINEAR)"
    lines = [
        f"scale = {scale}",
        "sides = tuple(max(1, round(scale * side)) for side in picture.size)",
        f"small = {resize}",
        f"mean, deviation = np.float32({list(model.pixel_mean)}), np.float32({list(model.pixel_std)})",
    ]
    if model.pad_value is None:
        lines += [
            f"pixels = (np.asarray(small, np.float32){order} - mean) / deviation",
            f"below, right = {pad}  # zeros, after the colours are normalised",
            "pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)))",
        ]
    else:
        lines += [
            f"pixels = np.asarray(small, np.float32){order}",
            f"below, right = {pad}",
            f"pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), constant_values={model.pad_value:g})",
            "pixels = (pixels - mean) / deviation",
        ]
    return "\n".join([*lines, "images = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])"])


def _aligned_mask(config: Config) -> tuple[str, str]:
    stride = config.model.mask_head.mask_out_stride
    logits = f"enlarge(logits[0, k], {MASK_FEATURE_STRIDE // stride})"
    return (
        "",
        f"""    probability = 1 / (1 + np.exp(-{logits}.clip(-50, 50)))
    mask = Image.fromarray(enlarge(probability, {stride})[: small.height, : small.width])
    mask = np.asarray(mask.resize(picture.size, Image.Resampling.BILINEAR)) > {config.detect.mask_threshold}""",
    )


def _bilinear_mask(config: Config) -> tuple[str, str]:
    """Both axes as one matrix each, from logits to the picture."""
    if config.detect.exchange_scales:  # as the model was trained and measured: the scales of both axes are exchanged
        target = "int(np.ceil({stride} * logits.shape[{axis}] * picture.{other} / small.{other}))"
        source = ""
    else:
        target, source = "picture.{side}", "[: small.{side}]"
    lines = []
    for name, axis, side, other in (("rows", 2, "height", "width"), ("columns", 3, "width", "height")):
        words = {"axis": axis, "side": side, "other": other, "stride": MASK_FEATURE_STRIDE}
        large = f"weights(logits.shape[{axis}], {MASK_FEATURE_STRIDE} * logits.shape[{axis}]){source.format(**words)}"
        lines += [
            f"{name} = {large}",
            f"{name} = weights(len({name}), {target.format(**words)})[: picture.{side}] @ {name}",
        ]
    mask = f"""    probability = 1 / (1 + np.exp(-(rows @ logits[0, k] @ columns.T).clip(-50, 50)))
    mask = np.zeros((picture.height, picture.width), bool)
    mask[: len(rows), : len(columns)] = probability > {config.detect.mask_threshold}"""
    return "\n".join([*lines, ""]), mask
