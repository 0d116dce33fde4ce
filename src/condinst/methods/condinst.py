"""CondInst (arXiv 2003.05664): FCOS, and a controller that predicts the dynamic mask head of each instance."""

from __future__ import annotations

from condinst.inference.detect import detect
from condinst.inference.logits import draw_logits
from condinst.method import Method
from condinst.model.condinst import CondInst
from condinst.model.descriptions import describe_condinst
from condinst.training.step import assign_batch, batch_losses, count_targets, needs_output

CONDINST = Method(
    network=CondInst,
    detect=detect,
    draw=draw_logits,
    assign=assign_batch,
    count=count_targets,
    objective=batch_losses,
    needs_output=needs_output,
    describe=describe_condinst,
)
