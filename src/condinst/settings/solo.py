"""The settings of the SOLO family alone. The comment above a field is its description in the settings reference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from condinst.settings.kinds import Section

Cells = Annotated[int, Field(ge=1, le=256)]


class SoloConfig(Section):
    """SOLO, Decoupled SOLO and SOLOv2: their grids of cells, and the form of their towers."""

    # For each pyramid level, the number of cells along each side of its grid. The grid covers the padded input.
    grids: tuple[Cells, Cells, Cells, Cells, Cells] = (40, 36, 24, 16, 12)
    # For decoupled-solo: one tower for the masks of columns and of rows, as in its light form.
    one_mask_tower: bool = False
    # Which blocks have a deformable convolution. last: the last block of each tower. all: all blocks of the towers and
    # of the mask branch.
    deformable: Literal["none", "last", "all"] = "none"
