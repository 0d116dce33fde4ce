"""The SOLO family: SOLO and Decoupled SOLO (arXiv 1912.04488), SOLOv2 (arXiv 2003.10152)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from condinst.inference.solo.detect import detect_cells
from condinst.inference.solo.draw import draw_cells
from condinst.method import Method
from condinst.model.heads.solo.decoupled_head import DecoupledHead
from condinst.model.heads.solo.output import SoloOutput
from condinst.model.heads.solo.solo_head import SOLOHead
from condinst.model.heads.solo.solov2_head import SOLOv2Head
from condinst.model.heads.solo.words import describe_decoupled_solo, describe_solo, describe_solov2
from condinst.model.solo import SoloNetwork
from condinst.training.solo.step import assign_all, assign_last, cell_losses, count_cells, needs_output
from condinst.training.solo.targets import SoloTargets

SOLO: Method[SoloOutput, SoloTargets] = Method(
    network=partial(SoloNetwork, head=SOLOHead),
    detect=detect_cells,
    draw=draw_cells,
    assign=assign_last,
    count=count_cells,
    objective=cell_losses,
    needs_output=needs_output,
    describe=describe_solo,
)
DECOUPLED_SOLO = replace(SOLO, network=partial(SoloNetwork, head=DecoupledHead), describe=describe_decoupled_solo)
SOLOV2 = replace(SOLO, network=partial(SoloNetwork, head=SOLOv2Head), assign=assign_all, describe=describe_solov2)
