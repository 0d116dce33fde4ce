"""torchvision's Mask R-CNN as the comparison trains it, and how it predicts."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from condinst.config import Config
from condinst.data.batch import Batch, make_images
from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.bitmaps.rle import Region, Rle, encode
from condinst.ops.boxes import clip_boxes, scale_boxes
from condinst.structures import Truth

BOX_FEATURES = 256


class Pyramid(nn.Module):
    """timm backbone and torchvision's FPN: P2–P5 and a max-pooled P6."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        options = {"pad_type": "same"} if config.model.backbone.same_padding else {}
        name = config.model.backbone.name
        self.body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4), **options)
        self.out_channels = config.model.fpn_channels
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels, LastLevelMaxPool())

    def train(self, mode: bool = True) -> Pyramid:
        super().train(mode)
        for module in self.body.modules():  # the statistics stay fixed, as in the recipe
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        named = OrderedDict((str(index), level) for index, level in enumerate(self.body(images)))
        levels: dict[str, Tensor] = self.fpn(named)
        return levels


class Rival(nn.Module):
    """torchvision's Mask R-CNN without its own resizing: it gets the batches that CondInst gets."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.backbone = Pyramid(config)
        channels, width = config.model.fpn_channels, config.model.head.channels
        detect = config.detect
        parts = MaskRCNN(
            self.backbone,
            rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
            box_head=TwoMLPHead(channels * 7**2, BOX_FEATURES),
            box_predictor=FastRCNNPredictor(BOX_FEATURES, classes + 1),
            mask_head=MaskRCNNHeads(channels, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
            box_detections_per_img=detect.max_detections,
            rpn_pre_nms_top_n_train=2000,
            rpn_post_nms_top_n_train=1000,
            box_batch_size_per_image=256,
        )
        self.rpn, self.roi_heads = parts.rpn, parts.roi_heads

    def forward(self, batch: Batch) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        images = ImageList(batch.images.tensor, list(batch.images.sizes))
        features = {name: level.float() for name, level in self.backbone(images.tensors).items()}
        targets = None
        if self.training:
            targets = [
                {"boxes": truth.boxes, "labels": truth.labels + 1, "masks": whole_masks(truth, size)}
                for truth, size in zip(batch.truths, batch.images.sizes, strict=True)
            ]
        with torch.autocast(images.tensors.device.type, enabled=False):
            proposals, rpn_losses = self.rpn(images, features, targets)
        detections, roi_losses = self.roi_heads(features, proposals, images.image_sizes, targets)
        return rpn_losses | roi_losses if self.training else detections


def whole_masks(truth: Truth, size: tuple[int, int]) -> Tensor:
    """(M, *size) uint8, the masks of every instance of a picture of `size` (height, width)."""
    every = torch.arange(len(truth.mask_places), device=truth.mask_places.device)
    return unpack(truth.mask_pixels, truth.mask_places, every, size).to(torch.uint8)


def rival_losses(model: nn.Module, batch: Batch, _: torch.Generator, __: int) -> dict[str, Tensor]:
    return {name: loss.float() for name, loss in model(batch).items()}


class RivalPredictor:
    """What evaluation needs: the same reading and resizing as `condinst.Predictor`, masks pasted by torchvision."""

    def __init__(self, model: Rival, config: Config) -> None:
        self.model, self.config = model.eval(), config

    @property
    def names(self) -> dict[int, str]:
        return dict(enumerate(self.config.model.classes))

    def __call__(self, source: Path) -> Result:
        image = read_image(source)
        original = (image.shape[0], image.shape[1])
        settings = self.config.model
        resized = resize_image(image, *resize_shape(*original, self.config.input.shorter, self.config.input.longer))
        images = make_images(
            [resized],
            [original],
            settings.pixel_mean,
            settings.pixel_std,
            settings.channel_order,
            settings.size_divisor,
        )
        with torch.inference_mode():
            found = self.model(Batch(images, ()))[0]
        boxes = clip_boxes(scale_boxes(found["boxes"], images.sizes[0], original), original)
        rles: list[Rle] = []
        for mask, box in zip(found["masks"], boxes, strict=True):
            pasted = paste_masks_in_image(mask[None], box[None], original)[0, 0] > 0.5
            rles.append(encode(Region(pasted.numpy(), 0, 0), *original))
        shown = Boxes(boxes, found["scores"], found["labels"] - 1, original)
        return Result(shown, Masks(tuple(rles), original), self.names, original, source)


def load_rival(config: Config, data: Path, folder: Path) -> RivalPredictor:
    """The trained rival from `folder`."""
    classes = read_coco(data / "val.json", data / "images").classes
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": classes})})
    model = Rival(config, len(classes))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return RivalPredictor(model, config)
