"""Build the network of a configuration."""

from __future__ import annotations

from condinst.model.condinst import CondInst
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.settings.model import ModelConfig

InstanceNetwork = CondInst | RTMDetIns


def build_network(config: ModelConfig, pretrained: bool = False) -> InstanceNetwork:
    """Build the network of `config.method` with initial weights.

    pretrained: let timm download ImageNet weights for the backbone. Raises ModelError if the backbone cannot be built.
    """
    return CondInst(config, pretrained) if config.method == "condinst" else RTMDetIns(config, pretrained)
