"""YOLACT (arXiv 1904.02689): anchors with coefficients, and prototypes that all masks of a picture share."""

from __future__ import annotations

from condinst.inference.yolact.detect import detect_anchors
from condinst.inference.yolact.draw import draw_prototypes
from condinst.method import Method
from condinst.model.descriptions import describe_yolact
from condinst.model.yolact import Yolact
from condinst.training.yolact.assign import assign_anchors, count_anchors, needs_no_output
from condinst.training.yolact.objective import yolact_losses

YOLACT = Method(
    network=Yolact,
    detect=detect_anchors,
    draw=draw_prototypes,
    assign=assign_anchors,
    count=count_anchors,
    objective=yolact_losses,
    needs_output=needs_no_output,
    describe=describe_yolact,
)
