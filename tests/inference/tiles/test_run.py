"""Tiles of real pictures: the mosaic of four pictures has their nuclei."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine.planning.statistics import measure_seen
from condinst.errors import PictureWarning, UsageError
from condinst.inference.result import Result
from condinst.inference.tiles.choose import choose_tiling
from condinst.predictor import Predictor
from condinst.settings.prediction import InputConfig, SeenConfig

DATA = Path(__file__).parents[2] / "data" / "nuclei"
SEEN = SeenConfig(scale=2.5, least_scale=0.625, small_side=14.3, middle_side=33.7)


def pictures() -> list[np.ndarray]:
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((DATA / "images").iterdir())]
    small = [array for array in arrays if array.shape[:2] == (256, 256)]
    return [small[index % len(small)] for index in range(4)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("nuclei", mode="exact", tile=256)


@pytest.fixture(scope="module")
def mosaic() -> np.ndarray:
    one, two, three, four = pictures()
    return np.concatenate((np.concatenate((one, two), axis=1), np.concatenate((three, four), axis=1)))


@pytest.fixture(scope="module")
def found(predictor: Predictor, mosaic: np.ndarray) -> Result:
    return predictor(mosaic)


def test_a_mosaic_has_the_nuclei_of_its_pictures(predictor: Predictor, mosaic: np.ndarray, found: Result) -> None:
    """The tiles at the corners are the pictures themselves. Nuclei away from the seams have the same masks."""
    masks = found.masks.data
    best, total = [], 0
    for index, picture in enumerate(pictures()):
        row, column = divmod(index, 2)
        there = masks[:, 256 * row : 256 * row + 256, 256 * column : 256 * column + 256]
        single = predictor(picture)
        for mask in single.masks.data:
            y, x = mask.nonzero().T
            if min(int(y.min()), int(x.min()), 255 - int(y.max()), 255 - int(x.max())) < 12:
                continue
            ious = (there & mask).sum(dim=(1, 2)) / (there | mask).sum(dim=(1, 2))
            assert (ious > 0.7).sum() == 1
            best.append(ious.max())
        total += len(single)
    assert abs(len(found) - total) <= 0.1 * total
    assert len(best) >= 10
    assert min(best) > 0.8  # the object may come from a tile that shows it beside other things
    assert torch.stack(best).median() >= 0.95
    assert (found.conf.diff() <= 0).all()
    assert found.orig_shape == (512, 512)


def test_no_object_twice(found: Result) -> None:
    masks = found.masks.data.flatten(1).float()
    shared = masks @ masks.T
    areas = shared.diagonal()
    iou = shared / (areas[:, None] + areas - shared)
    iou.fill_diagonal_(0)
    assert iou.max() < 0.7  # within one tile, the suppression of duplicates compares boxes


def test_streams_take_large_and_small_pictures_together(
    predictor: Predictor, mosaic: np.ndarray, found: Result
) -> None:
    first, second = predictor.stream([pictures()[0], mosaic], batch=2)
    assert first.orig_shape == (256, 256)
    assert first.masks.rle == predictor(pictures()[0]).masks.rle
    assert second.orig_shape == (512, 512)
    assert abs(len(second) - len(found)) <= 2  # two windows at a time round otherwise


def test_auto_tells_why() -> None:
    predictor = Predictor("nuclei", tile="auto")
    size = predictor.config.input.model_copy(update={"seen": SEEN})
    predictor.config = predictor.config.model_copy(update={"input": size})
    wide = np.zeros((100, 3000, 3), dtype=np.uint8)
    with pytest.warns(PictureWarning, match=r"cuts it into 15 tiles of 256×256 pixels; --tile off"):
        result = predictor(wide)
    assert len(result.notes) == 1
    assert result.orig_shape == (100, 3000)


def test_when_auto_cuts() -> None:
    size = InputConfig(shorter=640, longer=1280, seen=SEEN)
    assert choose_tiling(1024, 1024, size) is None  # as large as a picture of the training
    assert choose_tiling(1250, 1250, size) is None  # hardly larger
    assert choose_tiling(1300, 1300, size) is not None
    assert choose_tiling(256, 256, size) is None
    tiling = choose_tiling(5632, 5632, size)
    assert tiling is not None
    assert (tiling.tile, tiling.scale, tiling.total) == (256, 2.5, 28**2)
    assert choose_tiling(5632, 5632, size.model_copy(update={"tile": "off"})) is None
    assert choose_tiling(5632, 5632, InputConfig(shorter=640, longer=1280)) is None  # nothing is known of the training
    large = SEEN.model_copy(update={"small_side": 400.0})
    assert choose_tiling(5632, 5632, size.model_copy(update={"seen": large})) is None  # still large enough


def test_a_chosen_size_shows_the_whole_picture() -> None:
    assert Predictor("nuclei").config.input.tile == "auto"
    assert Predictor("nuclei", shorter=100).config.input.tile == "off"
    assert Predictor("nuclei", shorter=100, tile=64).config.input.tile == 64
    assert Predictor("nuclei", tile="off").config.input.tile == "off"
    assert Config.from_dict({}).with_overrides(["input.tile=off"]).input.tile == "off"  # YAML reads off as false


def test_what_training_saw() -> None:
    data = read_coco(DATA / "val.json", DATA / "images")
    seen = measure_seen(data, InputConfig(shorter=640, longer=1280))
    assert seen is not None
    scales = sorted(640 / min(sample.height, sample.width) for sample in data.samples)
    assert seen.scale == pytest.approx(float(np.median(scales)), abs=1e-3)
    assert scales[0] <= seen.least_scale <= seen.scale
    assert 0 < seen.small_side < seen.middle_side
    assert Config.from_dict({"input": {"seen": seen.model_dump()}}).input.seen == seen


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tile": 20}, "tile: expected a side from 32 to 65536 pixels, 'auto' or 'off', got 20"),
        ({"tile": "large"}, "got 'large'"),
        ({"tile": True}, "got True"),
        ({"tile": 256, "overlap": 0.9}, "overlap: expected a part of the tile from 0 to 0.5"),
        ({"tile": 256, "overlap": 200}, "half of its 256 pixels"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor("nuclei", **settings)  # type: ignore[arg-type]
