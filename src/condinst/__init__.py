"""CondInst instance segmentation (arXiv 2003.05664). Importing it loads nothing heavy; its names load on use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condinst.api import load_data, predict, train, val
    from condinst.config import Config
    from condinst.data.pictures.image import Page, read_image
    from condinst.errors import CondinstError, DataError, ModelError, PictureWarning, UsageError
    from condinst.evaluation.evaluate import Scores
    from condinst.hub import SOLO, BlendMask, CondInst, DecoupledSOLO, MEInst, RTMDetIns, SOLOv2, Yolact
    from condinst.inference.instances.boxes import Boxes
    from condinst.inference.instances.masks import Masks
    from condinst.inference.result import Result
    from condinst.predictor import Predictor
    from condinst.tracking.tracker import Tracker

__version__ = "0.1.0"

__all__ = [
    "SOLO",
    "BlendMask",
    "Boxes",
    "CondInst",
    "CondinstError",
    "Config",
    "DataError",
    "DecoupledSOLO",
    "MEInst",
    "Masks",
    "ModelError",
    "Page",
    "PictureWarning",
    "Predictor",
    "RTMDetIns",
    "Result",
    "SOLOv2",
    "Scores",
    "Tracker",
    "UsageError",
    "Yolact",
    "load_data",
    "predict",
    "read_image",
    "train",
    "val",
]

_HOMES = {
    "BlendMask": "condinst.hub",
    "Boxes": "condinst.inference.instances.boxes",
    "CondInst": "condinst.hub",
    "CondinstError": "condinst.errors",
    "Config": "condinst.config",
    "DataError": "condinst.errors",
    "DecoupledSOLO": "condinst.hub",
    "MEInst": "condinst.hub",
    "Masks": "condinst.inference.instances.masks",
    "ModelError": "condinst.errors",
    "Page": "condinst.data.pictures.image",
    "PictureWarning": "condinst.errors",
    "Predictor": "condinst.predictor",
    "RTMDetIns": "condinst.hub",
    "Result": "condinst.inference.result",
    "SOLO": "condinst.hub",
    "SOLOv2": "condinst.hub",
    "Scores": "condinst.evaluation.evaluate",
    "Tracker": "condinst.tracking.tracker",
    "UsageError": "condinst.errors",
    "Yolact": "condinst.hub",
    "load_data": "condinst.api",
    "predict": "condinst.api",
    "read_image": "condinst.data.pictures.image",
    "train": "condinst.api",
    "val": "condinst.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'condinst' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
