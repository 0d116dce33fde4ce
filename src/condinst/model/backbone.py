"""Image → C3, C4, C5 by any timm model that has maps at strides 8, 16 and 32."""

from __future__ import annotations

import difflib
from typing import Any, Self, cast

import timm
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condinst.config import BackboneConfig
from condinst.errors import ModelError, UsageError, first_line
from condinst.model.deformable import DeformableConv
from condinst.model.frozen_norm import FrozenNorm

WANTED = (8, 16, 32)


class Backbone(nn.Module):
    """(N, 3, H, W) → C3, C4, C5; `channels` tells how many each has, `licence` what timm says of the weights."""

    def __init__(self, config: BackboneConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.name, self.norm = config.name, config.norm
        self.recompute = False
        self.body: Any = _build(config, pretrained)  # timm's feature extractors have no common type
        reductions = self.body.feature_info.reduction()
        if list(reductions) != list(WANTED):
            raise ModelError(f"backbone '{config.name}': its last maps have strides {reductions}, needed {WANTED}")
        if getattr(self.body, "output_fmt", "NCHW") != "NCHW":
            raise ModelError(f"backbone '{config.name}': its maps have their channels last; take another")
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        cfg = getattr(self.body, "pretrained_cfg", None) or {}
        self.licence = str(cfg.get("license") or "not stated by timm")
        if config.stride_in_1x1:
            _move_strides(self.body, config.name)
        if config.deformable_interval:
            _deform(self.body, config)  # once the strides have moved: the offsets have those of the 3×3
        if config.norm == "frozen":
            _fix_norms(self.body)
        if config.frozen_stages:
            _freeze_stages(self.body, config)
        self.train(self.training)

    def forward(self, images: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.body(images))

    def set_recompute(self, wanted: bool) -> None:
        """Whether training makes the maps again on the way back. Raises UsageError for a backbone that cannot."""
        if wanted and self.norm == "batch":
            raise UsageError("train.recompute: the backbone's norms would count every batch twice; set norm=affine")
        try:
            self._make_again(wanted)
        except (AttributeError, AssertionError):  # timm's two ways to say that a model has no such switch
            if wanted:
                raise UsageError(
                    f"train.recompute: backbone '{self.name}' cannot make its maps again; set it to false"
                ) from None
        self.recompute = wanted
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As nn.Module.train, but norms whose statistics are fixed stay in evaluation mode."""
        super().train(mode)
        if self.recompute:
            self._make_again(mode)
        if self.norm != "batch":
            for module in _norms(self.body):
                module.eval()
        return self

    def _make_again(self, wanted: bool) -> None:
        # what timm wraps a transformer in has no switch of its own
        network = self.body if hasattr(self.body, "set_grad_checkpointing") else self.body.model
        network.set_grad_checkpointing(wanted)


def _build(config: BackboneConfig, pretrained: bool) -> Any:
    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name, timm.list_models(), 3)
        raise ModelError(f"backbone '{config.name}': timm has no such model; similar: {', '.join(near) or 'none'}")
    options: dict[str, Any] = {"pad_type": "same"} if config.same_padding else {}
    try:
        return timm.create_model(
            config.name, features_only=True, out_indices=(-3, -2, -1), pretrained=pretrained, **options
        )
    except (RuntimeError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"backbone '{config.name}': {first_line(error)}") from error


def _move_strides(body: nn.Module, name: str) -> None:
    """From the 3×3 of every down-sampling bottleneck to its first 1×1."""
    blocks = _bottlenecks(body)
    if not blocks:
        raise ModelError(f"backbone '{name}': stride_in_1x1 is for ResNets made of bottlenecks; set it to false")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)


def _deform(body: Any, config: BackboneConfig) -> None:
    """Make the 3×3 of every n-th bottleneck deformable, counted from the first of each stage that ends in C3–C5."""
    names = body.feature_info.module_name()
    stages = [_bottlenecks(stage) for name, stage in body.named_children() if name in names]
    if not stages or not all(stages):
        raise ModelError(f"backbone '{config.name}': deformable_interval is for ResNets of bottlenecks; set it to 0")
    for blocks in stages:
        for block in blocks[:: config.deformable_interval]:
            block.conv2 = DeformableConv(block.conv2)


def _bottlenecks(module: nn.Module) -> list[Any]:
    return [child for child in module.modules() if isinstance(child, Bottleneck)]


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [child for child in module.modules() if isinstance(child, _BatchNorm)]


def _fix_norms(body: nn.Module) -> None:
    """Of a subclass, such as timm's that bring an activation, only the learning is switched off."""
    for name, norm in list(body.named_modules()):
        if type(norm) is nn.BatchNorm2d:
            body.set_submodule(name, FrozenNorm.of(norm))
        elif isinstance(norm, _BatchNorm):
            norm.requires_grad_(False)


def _freeze_stages(body: Any, config: BackboneConfig) -> None:
    """Fix all that comes before the end of stage number `frozen_stages`, in timm's count; a ResNet's stem is one."""
    # timm names a stage as in the whole network; its feature extractors may write an underscore for the dot
    last: str = body.feature_info.info[: config.frozen_stages][-1]["module"].replace(".", "_")
    names = [name.replace(".", "_") for name, _ in body.named_modules()]
    inside = [index for index, name in enumerate(names) if name == last or name.startswith(f"{last}_")]
    if not inside:
        raise ModelError(f"backbone '{config.name}': where its stages end is not known; set frozen_stages to 0")
    for module in list(body.modules())[: inside[-1] + 1]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
