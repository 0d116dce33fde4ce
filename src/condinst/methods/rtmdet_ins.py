"""RTMDet-Ins (arXiv 2212.07784): CondInst's dynamic mask head on CSPNeXt, PAFPN and a dynamic assigner."""

from __future__ import annotations

from condinst.inference.detect import detect
from condinst.inference.logits import draw_logits
from condinst.method import Method
from condinst.model.descriptions import describe_rtmdet_ins
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.training.step import assign_batch, batch_losses, count_targets, needs_output

RTMDET_INS = Method(
    network=RTMDetIns,
    detect=detect,
    draw=draw_logits,
    assign=assign_batch,
    count=count_targets,
    objective=batch_losses,
    needs_output=needs_output,
    describe=describe_rtmdet_ins,
)
