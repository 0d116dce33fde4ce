"""The networks of all methods as one type."""

from __future__ import annotations

from condinst.model.blendmask import BlendMask
from condinst.model.condinst import CondInst
from condinst.model.meinst import MEInst
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.model.solo import SoloNetwork
from condinst.model.yolact import Yolact

InstanceNetwork = CondInst | RTMDetIns | SoloNetwork | Yolact | BlendMask | MEInst
