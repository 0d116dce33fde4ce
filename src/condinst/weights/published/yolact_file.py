"""Files of mmdetection's YOLACT: their size, older names, and the files of the authors' program."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from condinst.errors import ModelError
from condinst.ops.anchors import RATIOS
from condinst.recipes import load_recipe
from condinst.weights.published.layout import MOST_CLASSES, Architecture, Layout, read_counts, resnet_name
from condinst.weights.published.mmdetection import SETTINGS
from condinst.weights.published.yolact import HEAD, OLD_SEMANTIC, PROTONET, SEMANTIC, source_names

AUTHORS = ("prediction_layers.", "proto_net.", "fpn.lat_layers.")  # tensors of dbolya/yolact


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` is that of a YOLACT of mmdetection or of its authors."""
    return any(name.startswith((f"{HEAD}conv_coeff.", *AUTHORS)) for name in state)


def read_file(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """Return the layout of a YOLACT, and its tensors by the names of mmdetection 3.

    Raises ModelError for a file of the authors' program.
    """
    if any(name.startswith(AUTHORS) for name in state):
        raise ModelError(
            "a YOLACT of its authors' program, dbolya/yolact: it has square anchors and another pyramid, so its "
            "weights do not fit this network; give a file of mmdetection's YOLACT"
        )
    layout = Layout(
        program="mmdetection",
        settings=load_recipe("yolact-r50").model_copy(update={"about": SETTINGS.about}),
        recognises=recognises,
        read_architecture=_read_architecture,
        source_names=source_names,
        ignored=(),
    )
    return layout, _with_new_names(state)


def _with_new_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by the names of mmdetection 3. The semantic head had another name in mmdetection 2."""
    if any(name.startswith(SEMANTIC) for name in state):
        return dict(state)
    return {
        SEMANTIC + name.removeprefix(OLD_SEMANTIC) if name.startswith(OLD_SEMANTIC) else name: state[name]
        for name in state
    }


def _read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    rows = f"{HEAD}conv_cls.weight"
    counts = read_counts(state, rows, f"{PROTONET}10.weight", f"{HEAD}conv_coeff.weight")
    classes, rest = divmod(counts.classes, len(RATIOS))
    if rest or not 2 <= classes <= MOST_CLASSES:
        raise ModelError(
            f"tensor {rows} has {counts.classes} rows, expected {len(RATIOS)} for each class and background"
        )
    blocks = {name.split(".")[2] for name in state if name.startswith("backbone.layer3.")}
    return Architecture(
        backbone=resnet_name(blocks),
        deformable_interval=0,
        classes=classes - 1,
        features=counts.features,
        width=load_recipe("yolact-r50").model.mask_head.width,
        semantic=any(name.startswith(SEMANTIC) for name in state),
    )
