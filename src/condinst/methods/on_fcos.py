"""The masks of SOLOv2 and YOLACT at the locations of FCOS: CondInst with other filters and mask features.

The published methods have detectors of their own; `condinst.methods.solo` and `condinst.methods.yolact` bind them. Here
only the masks differ from CondInst, so that a comparison shows what the masks are worth.
"""

from __future__ import annotations

from dataclasses import replace

from condinst.methods.condinst import CONDINST
from condinst.model.descriptions import describe_linear

# a 1×1 convolution without bias on normalised features (SOLOv2, arXiv 2003.10152, §3.2)
SOLOV2_ON_FCOS = replace(CONDINST, describe=describe_linear)
# coefficients from −1 to 1 of prototypes, and masks cut to their boxes (YOLACT, arXiv 1904.02689, §3)
YOLACT_ON_FCOS = replace(CONDINST, describe=describe_linear)
