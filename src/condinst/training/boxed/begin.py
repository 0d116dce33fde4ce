"""What an MEInst needs before its training: the mask code."""

from __future__ import annotations

from pathlib import Path

from condinst.config import Config
from condinst.errors import UsageError
from condinst.model.instance_network import InstanceNetwork
from condinst.model.meinst import MEInst
from condinst.training.boxed.code_file import code_for


def set_code(model: InstanceNetwork, config: Config) -> list[str]:
    """Give the network the mask code of `train.mask_code`. Returns a line about it.

    A model to begin with has brought its own. Raises ModelError for a file that cannot be read, UsageError without any
    code.
    """
    assert isinstance(model, MEInst)
    path = config.train.mask_code
    if path:
        model.mask_code.set(code_for(Path(path), config.model.meinst.code, config.model.meinst.resolution))
        return [f"mask code: {path}"]
    if not model.mask_code.known:
        raise UsageError(
            "model.method is meinst, which needs train.mask_code=FILE; `condinst data mask-code DATA --out FILE` makes "
            "the file"
        )
    return []
