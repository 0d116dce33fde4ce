"""MEInst (arXiv 2003.11712): FCOS, and a code of the mask that a location predicts."""

from __future__ import annotations

from condinst.inference.detect import detect
from condinst.inference.squares import draw_decoded
from condinst.method import Method
from condinst.model.descriptions import describe_meinst
from condinst.model.meinst import MEInst
from condinst.training.boxed.begin import set_code
from condinst.training.boxed.meinst import assign_batch, batch_losses
from condinst.training.boxed.targets import count_boxed
from condinst.training.step import needs_output

MEINST = Method(
    network=MEInst,
    detect=detect,
    draw=draw_decoded,
    assign=assign_batch,
    count=count_boxed,
    objective=batch_losses,
    needs_output=needs_output,
    describe=describe_meinst,
    begin=set_code,
)
