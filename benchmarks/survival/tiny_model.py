"""A tiny untrained model whose scores are raised, so that it finds something on any picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from condinst.config import Config
from condinst.model.condinst import CondInst
from condinst.weights.folder import save_model

TINY: dict[str, Any] = {
    "model": {
        "classes": ["thing"],
        "backbone": {"name": "mobilenetv2_050"},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 64},
        "mask_branch": {"convs": 1, "channels": 16},
    },
    "input": {"shorter": 64, "longer": 96},
    "detect": {"max_detections": 20},
}


def save_tiny_model(folder: Path) -> Path:
    """Write the model folder and return its path."""
    torch.manual_seed(0)
    config = Config.from_dict(TINY)
    model = CondInst(config.model)
    with torch.no_grad():
        model.head.class_logits.bias.fill_(2.0)
        model.head.distances.bias.fill_(1.5)
    save_model(model, config, folder)
    return folder
