"""The remark on pictures that the network sees far smaller than they are."""

from pathlib import Path

import numpy as np
import pytest

from condinst.inference.shrinking import note_shrinking
from condinst.settings.prediction import InputConfig
from condinst.sources.read import Picture


@pytest.mark.parametrize(
    ("height", "width", "noted"),
    [
        (800, 10000, "10000×800 pixels are reduced to 1280×102"),  # the longer side decides
        (4000, 5000, "5000×4000 pixels are reduced to 800×640"),  # less than a quarter
        (1200, 1600, ""),
        (256, 256, ""),  # enlarged
        (10, 400, ""),  # thin, but enlarged
    ],
)
def test_which_pictures_are_noted(height: int, width: int, noted: str) -> None:
    picture = Picture(np.zeros((height, width, 3), dtype=np.uint8), Path("a.png"), "a.png")
    found = note_shrinking(picture, InputConfig(shorter=640, longer=1280))
    assert len(found.remarks) == bool(noted)
    assert all(noted in str(remark) for remark in found.remarks)
