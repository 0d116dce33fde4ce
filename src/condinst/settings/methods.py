"""The name of each method, what it asks of the settings outside of the section `model`, and which it does not use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condinst.config import Config

TITLES = {
    "condinst": "CondInst",
    "rtmdet-ins": "RTMDet-Ins",
    "solo": "SOLO",
    "decoupled-solo": "Decoupled SOLO",
    "solov2": "SOLOv2",
    "yolact": "YOLACT",
    "blendmask": "BlendMask",
    "meinst": "MEInst",
    "solov2-fcos": "SOLOv2's masks on FCOS",
    "yolact-fcos": "YOLACT's masks on FCOS",
}
OF_SOLO: dict[str, object] = {
    "targets.supervision": "masks",
    "targets.assigner": "fcos",
    "detect.score_root": False,
    "detect.nms": "matrix",
    "detect.exchange_scales": False,
    "loss.classification": "focal",
    "loss.mask": "dice",
    "input.stretch": False,
}
OF_SQUARES: dict[str, object] = {
    "input.stretch": False,
    "targets.assigner": "fcos",
    "targets.supervision": "masks",
    "detect.score_root": True,
    "detect.nms": "box",
    "detect.exchange_scales": False,
}
MASK_LOSSES = ("dice", "bce", "both", "box_bce")
# method → the only values of a setting that work, because the method lacks the parts that the other values are for
NEEDS: dict[str, dict[str, object]] = {
    "condinst": {"input.stretch": False, "loss.mask": MASK_LOSSES},
    "rtmdet-ins": {
        "targets.assigner": "dynamic",
        "detect.score_root": False,
        "model.semantic": False,
        "input.stretch": False,
        "loss.mask": MASK_LOSSES,
    },
    "solov2-fcos": {"input.stretch": False, "loss.mask": MASK_LOSSES},
    "yolact-fcos": {"input.stretch": False, "loss.mask": MASK_LOSSES},
    "blendmask": {**OF_SQUARES, "loss.mask": "bce"},
    "meinst": {**OF_SQUARES, "loss.mask": ("code", "bce")},
    "solo": OF_SOLO,
    "decoupled-solo": OF_SOLO,
    "solov2": OF_SOLO,
    "yolact": {
        "input.stretch": True,
        "detect.score_root": False,
        "detect.nms": "box",
        "detect.exchange_scales": False,
        "targets.supervision": "masks",
        "targets.mask_sampling": "random_per_image",
        "augment.mosaic_kind": "crop",
        "augment.mixup": 0,
    },
}
UNUSED_BY_SOLO = (
    "targets.center_radius",
    "targets.dynamic_radius",
    "targets.dynamic_candidates",
    "targets.mask_sampling",
    "loss.box",
    "loss.quality",
    "loss.box_weight",
    "loss.quality_weight",
    "loss.semantic_weight",
    "box_supervision",
    "train.mask_code",
)
UNUSED_BY_SQUARES = (
    *("box_supervision", "detect.decayed_threshold"),
    *("targets.center_part", "targets.dynamic_radius", "targets.dynamic_candidates"),
)
# method → settings, or whole groups of them, that must keep their default; `settings.model` has those of the model
UNUSED: dict[str, tuple[str, ...]] = {
    "solo": UNUSED_BY_SOLO,
    "decoupled-solo": UNUSED_BY_SOLO,
    "solov2": UNUSED_BY_SOLO,
    "condinst": ("train.mask_code",),
    "solov2-fcos": ("train.mask_code",),
    "yolact-fcos": ("train.mask_code",),
    "rtmdet-ins": ("train.mask_code",),
    "blendmask": (*UNUSED_BY_SQUARES, "train.mask_code"),
    "meinst": UNUSED_BY_SQUARES,
    "yolact": (
        "detect.decayed_threshold",
        "targets.assigner",
        "targets.center_radius",
        "targets.center_part",
        "targets.dynamic_radius",
        "targets.dynamic_candidates",
        "loss.classification",
        "loss.box",
        "loss.quality",
        "loss.mask",
        "box_supervision",
        "train.mask_code",
    ),
}


def check_method(config: Config) -> None:
    """Raise ValueError for the first setting that does not fit the method."""
    method = config.model.method
    for key, wanted in NEEDS.get(method, {}).items():
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        if _read(config, key)[0] not in values:
            words = " or ".join(str(value).lower() for value in values)
            raise ValueError(f"model.method is {method}, which needs {key}={words}")
    for key in UNUSED.get(method, ()):
        value, default = _read(config, key)
        if value != default:
            raise ValueError(f"model.method is {method}, which does not use {key}; leave it at {_words(default)}")


def _read(config: Config, key: str) -> tuple[Any, Any]:
    """Return the value of a setting and its default."""
    *place, name = key.split(".")
    section: Any = config
    for part in place:
        section = getattr(section, part)
    return getattr(section, name), type(section).model_fields[name].default


def _words(default: object) -> str:
    return str(default).lower() if isinstance(default, str | bool | int | float) else "its defaults"
