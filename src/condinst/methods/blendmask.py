"""BlendMask (arXiv 2001.00309): FCOS, and bases inside each box, blended by an attention that a location predicts."""

from __future__ import annotations

from condinst.inference.detect import detect
from condinst.inference.squares import draw_blended
from condinst.method import Method
from condinst.model.blendmask import BlendMask
from condinst.model.descriptions import describe_blendmask
from condinst.training.boxed.blendmask import assign_batch, batch_losses
from condinst.training.boxed.targets import count_boxed
from condinst.training.step import needs_output

BLENDMASK = Method(
    network=BlendMask,
    detect=detect,
    draw=draw_blended,
    assign=assign_batch,
    count=count_boxed,
    objective=batch_losses,
    needs_output=needs_output,
    describe=describe_blendmask,
)
