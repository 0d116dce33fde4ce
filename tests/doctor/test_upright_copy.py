"""A repaired copy keeps every bit of a picture that it turns upright."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.doctor.write_copy import _save_upright


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_wide_pictures_keep_their_values(kind: Any, tmp_path: Path) -> None:
    values = np.arange(12, dtype=kind).reshape(3, 4) * 1000 + 1
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={274: 6})
    saved = _save_upright(tmp_path / "a.tif", tmp_path / "out" / "a.png")
    with Image.open(saved) as image:
        assert np.array_equal(np.asarray(image), np.rot90(values, -1))
    assert saved == tmp_path / "out" / "a.tif"
