"""The file of MEInst's mask code, in the layout of the published program."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from condinst.errors import ModelError, UsageError
from condinst.npz import read_arrays
from condinst.structures import MaskCode

MOST_BYTES = 2**28  # of the arrays in a file; the published one has 200 thousand


class Layout(NamedTuple):
    """The names of the arrays. Each has a leading axis of 1, float32."""

    components: str = "components_c"  # (1, D, m²)
    variances: str = "explained_variance_c"  # (1, D)
    means: str = "mean_c"  # (1, m²)


NAMES = Layout()
RATIO = "ratio_c"  # (1, D), the share of each component in the variance of the masks; condinst does not need it


def pack_code(code: MaskCode, ratio: Tensor) -> bytes:
    """The content of the file. ratio: (D,), the share of each component in the variance."""
    arrays = {name: part[None].float().numpy() for name, part in zip(NAMES, code, strict=True)}
    stream = BytesIO()
    np.savez(stream, allow_pickle=False, **arrays, **{RATIO: ratio[None].float().numpy()})
    return stream.getvalue()


def read_code(path: Path) -> MaskCode:
    """Read the mask code of a file. Raises ModelError for a file without one."""
    arrays = read_arrays(path, MOST_BYTES)
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise ModelError(f"{path}: holds no mask code: no array {missing[0]}; make one with `condinst data mask-code`")
    parts = [torch.from_numpy(arrays[name].astype(np.float32)) for name in NAMES]
    components, variances, means = (part[0] if part.ndim and len(part) == 1 else part for part in parts)
    numbers, cells = components.shape if components.ndim == 2 else (0, 0)
    if not numbers or variances.shape != (numbers,) or means.shape != (cells,) or round(cells**0.5) ** 2 != cells:
        shapes = ", ".join(f"{name} {tuple(arrays[name].shape)}" for name in NAMES)
        raise ModelError(f"{path}: its arrays are not those of a mask code: {shapes}; give another file")
    if not all(part.isfinite().all() for part in parts) or not (variances > 0).all():
        raise ModelError(f"{path}: NaN, infinity or a variance that is not above 0; make the file again")
    return MaskCode(components, variances, means)


def code_for(path: Path, numbers: int, side: int) -> MaskCode:
    """The code of a file for a model with codes of `numbers` numbers and masks of side `side`.

    Raises ModelError for a file that cannot be read, UsageError for a code of another size.
    """
    code = read_code(path)
    found = (code.components.shape[0], round(code.components.shape[1] ** 0.5))
    if found != (numbers, side):
        raise UsageError(
            f"train.mask_code={path}: codes of {found[0]} numbers for {found[1]}×{found[1]} masks; the model has "
            f"model.meinst.code={numbers} and model.meinst.resolution={side}"
        )
    return code
