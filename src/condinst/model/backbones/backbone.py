"""The backbone: CSPNeXt, or any timm model whose last three feature maps have strides 8, 16 and 32."""

from __future__ import annotations

import difflib
from typing import Any, Self, cast

import timm
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condinst.errors import ModelError, UsageError, first_line
from condinst.model.backbones.cspnext import SIZES, CSPNeXt
from condinst.model.backbones.deformable import DeformableConv
from condinst.model.backbones.frozen_norm import FrozenNorm
from condinst.settings.model import BackboneConfig

STRIDES = (4, 8, 16, 32)
DEFORMED = 3  # the last stages, which may have deformable convolutions


class Backbone(nn.Module):
    """Images (N, 3, H, W) → feature maps C3, C4, C5 at strides 8, 16 and 32.

    channels: number of channels of C3, C4 and C5. licence: the licence of the weights as timm states it. Raises
    ModelError if there is no such model or the model does not fit `config`.
    """

    def __init__(self, config: BackboneConfig, pretrained: bool = False, maps: int = 3) -> None:
        super().__init__()
        self.name, self.norm = config.name, config.norm
        self.recompute = False
        self.body: Any = _build(config, pretrained, maps)  # timm's feature extractors have no common type
        reductions = self.body.feature_info.reduction()
        wanted = list(STRIDES[-maps:])
        if list(reductions) != wanted:
            raise ModelError(f"backbone '{config.name}': its last maps have strides {reductions}, expected {wanted}")
        if getattr(self.body, "output_fmt", "NCHW") != "NCHW":
            raise ModelError(f"backbone '{config.name}': its feature maps have the channels last; choose another")
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        cfg = getattr(self.body, "pretrained_cfg", None) or {}
        self.licence = str(cfg.get("license") or "not stated by timm")
        if config.stride_in_1x1:
            _move_strides(self.body, config.name)
        if config.deformable_interval:
            _deform(self.body, config)  # after the strides have moved, because the offsets take the stride of the 3×3
        if config.norm == "frozen":
            _fix_norms(self.body)
        if config.frozen_stages:
            _freeze_stages(self.body, config)
        self.train(self.training)

    def forward(self, images: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.body(images))

    def set_recompute(self, wanted: bool) -> None:
        """Set whether the backward pass computes the maps again. Raises UsageError if the backbone cannot do it."""
        if wanted and self.norm == "batch":
            raise UsageError("train.recompute: norm=batch would count each batch twice; set model.backbone.norm=affine")
        try:
            self._make_again(wanted)
        except (AttributeError, AssertionError):  # timm raises either of them for a model without this feature
            if wanted:
                raise UsageError(
                    f"train.recompute: backbone '{self.name}' cannot recompute its maps; set it to false"
                ) from None
        self.recompute = wanted
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As nn.Module.train, but norms with fixed statistics stay in evaluation mode."""
        super().train(mode)
        if self.recompute:
            self._make_again(mode)
        if self.norm != "batch":
            for module in _norms(self.body):
                module.eval()
        return self

    def _make_again(self, wanted: bool) -> None:
        # timm's wrapper around a transformer lacks this method; the wrapped model has it
        network = self.body if hasattr(self.body, "set_grad_checkpointing") else self.body.model
        network.set_grad_checkpointing(wanted)


def check_pretrained(name: str) -> None:
    """Raise ModelError for a backbone without ImageNet weights that condinst can download."""
    if name in SIZES:
        raise ModelError(
            f"backbone '{name}': condinst downloads no ImageNet weights of it; set train.init to a file or to none"
        )


def _build(config: BackboneConfig, pretrained: bool, maps: int) -> Any:
    if config.name in SIZES:
        return _build_cspnext(config, pretrained, maps)
    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name, sorted({*SIZES, *timm.list_models()}), 3)
        raise ModelError(f"backbone '{config.name}': timm has no such model; similar: {', '.join(near) or 'none'}")
    options: dict[str, Any] = {"pad_type": "same"} if config.same_padding else {}
    try:
        return timm.create_model(
            config.name, features_only=True, out_indices=tuple(range(-maps, 0)), pretrained=pretrained, **options
        )
    except (RuntimeError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"backbone '{config.name}': {first_line(error)}") from error


def _build_cspnext(config: BackboneConfig, pretrained: bool, maps: int) -> CSPNeXt:
    if config.same_padding:
        raise ModelError(f"backbone '{config.name}': same_padding is for timm's models; set it to false")
    if pretrained:
        check_pretrained(config.name)
    return CSPNeXt(SIZES[config.name], maps)


def _move_strides(body: nn.Module, name: str) -> None:
    """Move the stride of each down-sampling bottleneck from its 3×3 convolution to its first 1×1 convolution."""
    blocks = _bottlenecks(body)
    if not blocks:
        raise ModelError(f"backbone '{name}': stride_in_1x1 is for ResNets made of bottlenecks; set it to false")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)


def _deform(body: Any, config: BackboneConfig) -> None:
    """Make the 3×3 convolution of every n-th bottleneck deformable, from the first of each stage that ends in C3–C5."""
    names = body.feature_info.module_name()[-DEFORMED:]
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
    """Replace each BatchNorm2d by a FrozenNorm. Subclasses, such as timm's with an activation, only stop learning."""
    for name, norm in list(body.named_modules()):
        if type(norm) is nn.BatchNorm2d:
            body.set_submodule(name, FrozenNorm.of(norm))
        elif isinstance(norm, _BatchNorm):
            norm.requires_grad_(False)


def _freeze_stages(body: Any, config: BackboneConfig) -> None:
    """Stop the first `frozen_stages` stages, as timm counts them, from learning. The stem of a ResNet is the first."""
    # timm uses the stage names of the whole network; its feature extractors may replace a dot by an underscore
    last: str = body.feature_info.info[: config.frozen_stages][-1]["module"].replace(".", "_")
    names = [name.replace(".", "_") for name, _ in body.named_modules()]
    inside = [index for index, name in enumerate(names) if name == last or name.startswith(f"{last}_")]
    if not inside:
        raise ModelError(f"backbone '{config.name}': condinst cannot tell where its stages end; set frozen_stages to 0")
    for module in list(body.modules())[: inside[-1] + 1]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
