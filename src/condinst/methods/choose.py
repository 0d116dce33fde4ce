"""The method of a model."""

from __future__ import annotations

from typing import Any

from condinst.method import Method
from condinst.methods.blendmask import BLENDMASK
from condinst.methods.condinst import CONDINST
from condinst.methods.meinst import MEINST
from condinst.methods.on_fcos import SOLOV2_ON_FCOS, YOLACT_ON_FCOS
from condinst.methods.rtmdet_ins import RTMDET_INS
from condinst.methods.solo import DECOUPLED_SOLO, SOLO, SOLOV2
from condinst.methods.yolact import YOLACT
from condinst.model.instance_network import InstanceNetwork
from condinst.settings.model import ModelConfig

METHODS: dict[str, Method[Any, Any]] = {
    "condinst": CONDINST,
    "rtmdet-ins": RTMDET_INS,
    "solo": SOLO,
    "decoupled-solo": DECOUPLED_SOLO,
    "solov2": SOLOV2,
    "yolact": YOLACT,
    "blendmask": BLENDMASK,
    "meinst": MEINST,
    "solov2-fcos": SOLOV2_ON_FCOS,
    "yolact-fcos": YOLACT_ON_FCOS,
}


def method_of(model: ModelConfig) -> Method[Any, Any]:
    """The parts of the method that the settings name."""
    return METHODS[model.method]


def build_network(model: ModelConfig, pretrained: bool = False) -> InstanceNetwork:
    """The network of a model with random weights. pretrained: let timm download ImageNet weights for the backbone.

    Raises ModelError if the backbone cannot be built.
    """
    return method_of(model).network(model, pretrained)
