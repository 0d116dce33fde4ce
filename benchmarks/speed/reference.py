"""The method as it was published, step by step, for comparison: every instance its own copy of the features, one
grouped convolution for all, every mask at full size before it is compared, drawn and encoded.

Written from the paper and the measured behaviour of the published program. The network is the package's own, eager,
float32, NCHW. K instances, F mask features, h×w maps at stride 8, H×W the input.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as codec
from torch import Tensor
from torchvision.ops import batched_nms

from benchmarks.speed.measure import synchronize
from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.sample import Polygons, Sample
from condinst.data.transforms import resize_image, resize_shape
from condinst.model.condinst import CondInst
from condinst.settings.prediction import DetectConfig
from condinst.structures import (
    CONDINST,
    MASK_FEATURE_STRIDE,
    STRIDES,
    Detections,
    FilterLayout,
    Geometry,
    HeadOutput,
    Images,
    NetworkOutput,
    Truth,
)

Size = tuple[int, int]
Rle = Mapping[str, Any]


class Found(NamedTuple):
    """boxes: (K, 4) in the original's pixels. scores, labels: (K,). rles: COCO's, of the whole original each."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rles: list[Rle]


class ReferencePredictor:
    """A picture in, its instances out. `times` of the last call: milliseconds by stage."""

    def __init__(self, model: CondInst, config: Config, device: str) -> None:
        self.model, self.config, self.device = model.to(device).eval(), config, device
        self.times: dict[str, float] = {}

    def __call__(self, picture: NDArray[np.uint8]) -> Found:
        self.times = {}
        start = time.perf_counter()
        images = self.prepare(picture)
        start = self._note("preprocess", start)
        # a graphics card would otherwise round float32 to 19 bits, which ours does not in its exact mode
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = self.model(images.tensor)
            chosen = detect(output.head, self.config.detect)
            start = self._note("inference", start)
            found = finish(output, chosen, images, self.config)
        self._note("postprocess", start)
        return found

    def prepare(self, picture: NDArray[np.uint8]) -> Images:
        model, size, original = self.config.model, self.config.input, (picture.shape[0], picture.shape[1])
        resized = resize_image(picture, *resize_shape(*original, size.shorter, size.longer))
        images = make_images(
            [resized], [original], model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor
        )
        return images._replace(tensor=images.tensor.to(self.device))

    def _note(self, stage: str, start: float) -> float:
        synchronize(self.device)
        now = time.perf_counter()
        self.times[stage] = 1000 * (now - start)
        return now


def finish(output: NetworkOutput, found: Detections, images: Images, config: Config) -> Found:
    """From the detections of one image to its instances."""
    size, original = images.sizes[0], images.original_sizes[0]
    boxes = found.boxes * torch.tensor(
        [original[1] / size[1], original[0] / size[0]] * 2, device=found.boxes.device, dtype=found.boxes.dtype
    )
    boxes = torch.stack(
        [side.clamp(0, original[1 - index % 2]) for index, side in enumerate(boxes.unbind(1))],
        dim=1,
    )
    seen = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero()[:, 0]
    found, boxes = Detections(*(field[seen] for field in found)), boxes[seen]
    return Found(boxes.cpu(), found.scores.cpu(), found.labels.cpu(), draw(output, found, images, config))


def draw(output: NetworkOutput, found: Detections, images: Images, config: Config) -> list[Rle]:
    """The masks of one image's instances in the original."""
    head = config.model.mask_head
    logits = mask_head(
        output.mask_features,
        found.filters,
        torch.zeros_like(found.levels),
        found.locations,
        torch.tensor(config.model.coordinate_scales, device=found.levels.device)[found.levels],
        layout_of(config),
        head.coordinates,
        head.mask_out_stride,
    )
    size, original = images.sizes[0], images.original_sizes[0]
    return encode(paste(logits.sigmoid(), head.mask_out_stride, size, original, config.detect.mask_threshold))


def layout_of(config: Config) -> FilterLayout:
    """Of the published models: relative coordinates and features."""
    return FilterLayout(
        config.model.mask_branch.features, 2, config.model.mask_head.depth, config.model.mask_head.width
    )


def detect(head: HeadOutput, config: DetectConfig) -> Detections:
    """Per level the best of p > threshold, p = σ(class)·σ(centerness); NMS by class; the best of all; score √p."""
    levels = []
    for level, stride in enumerate(STRIDES):
        logits = head.class_logits[level][0]
        classes, _, width = logits.shape
        p = (logits.sigmoid() * head.centerness_logits[level][0].sigmoid()).permute(1, 2, 0).reshape(-1, classes)
        cells, labels = (p > config.score_threshold).nonzero(as_tuple=True)
        best, order = p[cells, labels].topk(min(len(cells), config.candidates_per_level))
        cells, labels = cells[order], labels[order]
        x, y = (cells % width) * stride + stride // 2, (cells // width) * stride + stride // 2
        left, top, right, bottom = head.distances_in_strides[level][0].flatten(1)[:, cells] * stride
        boxes = torch.stack((x - left, y - top, x + right, y + bottom), dim=1)
        filters = head.filters[level][0].flatten(1)[:, cells].T
        numbers = torch.full_like(cells, level)
        levels.append(Detections(boxes, best.sqrt(), labels, torch.stack((x, y), dim=1).float(), numbers, filters))
    every = Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True)))
    kept = batched_nms(every.boxes, every.scores, every.labels, config.nms_threshold)
    return Detections(*(field[kept[: config.max_detections]] for field in every))


def mask_head(
    mask_features: Tensor,
    filters: Tensor,
    image_index: Tensor,
    locations: Tensor,
    scales: Tensor,
    layout: FilterLayout,
    coordinates: str,
    mask_out_stride: int,
    geometry: Geometry = CONDINST,
) -> Tensor:
    """As `condinst.ops.dynamic_mask_head`, with relative coordinates of CondInst only: (K, 8h/s, 8w/s) logits."""
    assert coordinates == "relative"
    assert geometry == CONDINST
    count, (height, width) = len(filters), mask_features.shape[-2:]
    step, half = MASK_FEATURE_STRIDE, MASK_FEATURE_STRIDE // 2
    y, x = torch.meshgrid(
        torch.arange(height, device=filters.device) * step + half,
        torch.arange(width, device=filters.device) * step + half,
        indexing="ij",
    )
    apart = locations[:, :, None, None] - torch.stack((x, y))[None]
    maps = torch.cat((apart / scales[:, None, None, None], mask_features[image_index]), dim=1)
    maps = maps.reshape(1, -1, height, width)
    parts = torch.split(filters, [*layout.weight_counts, *layout.sizes[1:]], dim=1)
    for layer in range(layout.depth):
        inputs, outputs = layout.sizes[layer : layer + 2]
        weight, bias = parts[layer].reshape(-1, inputs, 1, 1), parts[layout.depth + layer].reshape(-1)
        assert len(weight) == count * outputs
        maps = F.conv2d(maps, weight, bias, groups=count)
        maps = maps.relu() if layer < layout.depth - 1 else maps
    return aligned_bilinear(maps.reshape(count, 1, height, width), step // mask_out_stride)[:, 0]


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """(K, 1, h, w) → (K, 1, factor·h, factor·w), output pixel factor·i + factor/2 being input pixel i."""
    if factor == 1:
        return maps
    height, width = maps.shape[2:]
    maps = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    maps = F.interpolate(maps, (factor * height + 1, factor * width + 1), mode="bilinear", align_corners=True)
    maps = F.pad(maps, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return maps[:, :, : factor * height, : factor * width]


def paste(probabilities: Tensor, stride: int, size: Size, original: Size, threshold: float) -> Tensor:
    """All masks at once, (K, *original) bool, through the padded input's and the original's full size."""
    full = aligned_bilinear(probabilities[:, None], stride)[:, :, : size[0], : size[1]]
    return F.interpolate(full, original, mode="bilinear", align_corners=False)[:, 0] > threshold


def encode(bitmaps: Tensor) -> list[Rle]:
    """Each whole bitmap column by column."""
    return [codec.encode(np.asfortranarray(bitmap.cpu().numpy(), dtype=np.uint8)) for bitmap in bitmaps]


def draw_truth(sample: Sample, size: Size, padded: Size, stride: int) -> tuple[Truth, Tensor]:
    """The truth of a picture already of its training size, and the (M, *padded) uint8 bitmaps it was sampled from."""
    height, width = size
    bitmaps = torch.zeros((len(sample.instances), *padded), dtype=torch.uint8)
    for bitmap, instance in zip(bitmaps, sample.instances, strict=True):
        assert isinstance(instance.shape, Polygons)
        rles = codec.frPyObjects([part.ravel().tolist() for part in instance.shape.parts], height, width)
        bitmap[:height, :width] = torch.from_numpy(codec.decode(codec.merge(rles)))
    labels = torch.tensor([instance.label for instance in sample.instances])
    masks = bitmaps[:, stride // 2 :: stride, stride // 2 :: stride].bool()
    whole = torch.tensor([[0, 0, masks.shape[2], masks.shape[1]]]).expand(len(masks), 4)
    truth = Truth(
        boxes=torch.tensor([instance.box for instance in sample.instances], dtype=torch.float32),
        labels=labels,
        centroids=centroids(bitmaps),
        mask_pixels=masks.flatten(),
        mask_places=whole,
        semantic=semantic(bitmaps, labels),
        has_mask=torch.ones(len(labels), dtype=torch.bool),
    )
    return truth, bitmaps


def centroids(bitmaps: Tensor) -> Tensor:
    """Mean (x, y) of each bitmap's pixels: (M, 2)."""
    full = bitmaps.float()
    area = full.sum(dim=(1, 2)).clamp(min=1)
    x = (full * torch.arange(full.shape[2])).sum(dim=(1, 2)) / area
    y = (full * torch.arange(full.shape[1])[:, None]).sum(dim=(1, 2)) / area
    return torch.stack((x, y), dim=1)


def semantic(bitmaps: Tensor, labels: Tensor) -> Tensor:
    """Of the pixels [4::8] the label of the smallest mask there, −1 where there is none."""
    half = MASK_FEATURE_STRIDE // 2
    sampled = bitmaps[:, half::MASK_FEATURE_STRIDE, half::MASK_FEATURE_STRIDE].bool()
    areas = bitmaps.sum(dim=(1, 2))[:, None, None].expand(sampled.shape)
    smallest = torch.where(sampled, areas, torch.iinfo(areas.dtype).max).argmin(dim=0)
    return torch.where(sampled.any(dim=0), labels[smallest], -1)
