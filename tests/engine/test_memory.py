"""Evaluation holds one picture's masks at a time, and those as run lengths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.ops.bitmaps.rle import Region, decode_region, encode

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
WIDTH, HEIGHT, OBJECTS = 2500, 1800, 300
LARGEST = 600  # MB above the loaded model

EXAMINE = """
import json, sys
from pathlib import Path
import torch
from condinst.data.formats.coco.read import read_coco
from condinst.evaluation.analysis import examine
from condinst.predictor import Predictor

def megabytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

torch.set_num_threads(1)
folder = Path(sys.argv[1])
predictor = Predictor("nuclei", device="cpu", conf=None, max_detections=500)
loaded = megabytes("VmRSS")
scores, _ = examine(read_coco(folder / "val.json", folder / "images"), predictor, 500)
print(json.dumps([scores.truths, scores.detections, megabytes("VmHWM") - loaded]))
"""


def write_large(folder: Path) -> None:
    """Real pictures of nuclei side by side, a COCO file of the first OBJECTS in them."""
    data = read_coco(NUCLEI / "train.json", NUCLEI / "images")
    canvas = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    annotations = []
    left = top = lowest = 0
    for sample in (sample for _ in range(100) for sample in data.samples):
        if left + sample.width > WIDTH:
            left, top = 0, top + lowest
            lowest = 0
        if top + sample.height > HEIGHT:
            break
        canvas[top : top + sample.height, left : left + sample.width] = read_image(sample.path)
        for instance in sample.instances:
            assert instance.shape is not None
            bitmap, x, y = decode_region(instance.shape.whole(sample.height, sample.width))
            place = (x + left, y + top)
            box = [*place, bitmap.shape[1], bitmap.shape[0]]
            mask = encode(Region(bitmap, *place), HEIGHT, WIDTH)
            annotations.append({"id": len(annotations) + 1, "bbox": box, "segmentation": mask, "iscrowd": 0})
        left, lowest = left + sample.width, max(lowest, sample.height)
    records = [{**record, "image_id": 1, "category_id": 1} for record in annotations[:OBJECTS]]
    image = {"id": 1, "file_name": "large.png", "width": WIDTH, "height": HEIGHT}
    categories = [{"id": 1, "name": "nucleus"}]
    (folder / "images").mkdir()
    Image.fromarray(canvas).save(folder / "images" / "large.png", compress_level=1)
    document = {"images": [image], "annotations": records, "categories": categories}
    (folder / "val.json").write_text(json.dumps(document))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_crowded_picture(tmp_path: Path) -> None:
    write_large(tmp_path)
    line = [sys.executable, "-c", EXAMINE, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    truths, detections, peak = json.loads(done.stdout)
    assert truths == OBJECTS
    assert detections > OBJECTS
    assert peak < LARGEST
