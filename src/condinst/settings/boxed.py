"""The settings of the methods whose masks fill the boxes of their instances."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from condinst.settings.kinds import Section


class BlendMaskConfig(Section):
    """BlendMask (arXiv 2001.00309): the bases inside a box, blended by the attention of the instance."""

    # Side of the attention that a location predicts for each base, in cells.
    attention: Annotated[int, Field(ge=1, le=64)] = 14
    # Side of the square mask that fills the box, in cells.
    resolution: Annotated[int, Field(ge=1, le=256)] = 56


class MEInstConfig(Section):
    """MEInst (arXiv 2003.11712): a code that stands for a square mask inside the box."""

    # Numbers in the code of a mask.
    code: Annotated[int, Field(ge=1, le=4096)] = 60
    # Side of the square mask that fills the box, in cells.
    resolution: Annotated[int, Field(ge=2, le=128)] = 28
