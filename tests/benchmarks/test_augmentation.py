"""The picture of the augmentation page is made by its command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_picture_is_made_as_the_page_says(tmp_path: Path) -> None:
    command = "-m benchmarks.data.augmentation tests/data/facade docs/images/augmentation.jpg"
    page = (ROOT / "docs" / "how-to" / "augmentation.md").read_text(encoding="utf-8")
    assert f"`python {command}`" in page
    _, script, data, published = command.split()
    out = tmp_path / "made.jpg"
    done = subprocess.run(
        [sys.executable, "-m", script, data, str(out)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.rpartition(": ")[0] for line in done.stdout.splitlines()] == [
        "crop",
        "jitter=[0.5,2] and colour",
        "mosaic=1",
        "copy_paste=1",
        "mosaic=1 copy_paste=1",
    ]
    with Image.open(out) as made, Image.open(ROOT / published) as shown:
        assert made.size == shown.size
        pixels = (np.asarray(image, dtype=np.int64) for image in (made, shown))
        assert abs(np.subtract(*pixels)).mean() < 2  # versions of Pillow differ by a little
    assert (ROOT / published).stat().st_size < 300_000
