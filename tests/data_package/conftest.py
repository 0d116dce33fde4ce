"""The small real sets as other programs would write them, and what is true of them by pycocotools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from condinst.data.findings import Finding
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.errors import DataError
from condinst.ops.bitmaps.rle import decode

SETS = Path(__file__).parent.parent / "data"
Mask = NDArray[np.bool_]
Masks = dict[str, list[tuple[str, Mask | None]]]  # picture's name without ending → class and mask of each object


def mask_of(instance: Instance, sample: Sample) -> Mask | None:
    return None if instance.shape is None else decode(instance.shape.whole(sample.height, sample.width))


def masks_of(data: AnnotatedData) -> Masks:
    return {
        sample.path.stem: [(data.classes[each.label], mask_of(each, sample)) for each in sample.instances]
        for sample in data.samples
    }


@pytest.fixture
def drawn() -> Callable[[AnnotatedData], Masks]:
    return masks_of


@pytest.fixture
def same() -> Callable[[Masks, Masks], None]:
    """Every object is there once, pixel by pixel, in any order."""

    def check(found: Masks, truth: Masks) -> None:
        assert set(found) == set(truth)
        for picture, objects in truth.items():
            left = [(name, None if mask is None else mask.tobytes()) for name, mask in found[picture]]
            for name, mask in objects:
                left.remove((name, None if mask is None else mask.tobytes()))
            assert left == []

    return check


@pytest.fixture
def truth() -> Callable[[str, str], tuple[COCO, Masks]]:
    """(set, split) → its COCO file and the masks that pycocotools draws of it."""

    def read(name: str, split: str) -> tuple[COCO, Masks]:
        coco = COCO(str(SETS / name / f"{split}.json"))
        return coco, {
            Path(image["file_name"]).stem: [
                (coco.cats[each["category_id"]]["name"], coco.annToMask(each).astype(bool))
                for each in coco.imgToAnns[number]
            ]
            for number, image in coco.imgs.items()
        }

    return read


@pytest.fixture
def sets() -> Path:
    return SETS


@pytest.fixture
def told() -> Callable[..., str]:
    """The one line that reading ends in."""

    def run(read: Callable[..., Any], *words: Any) -> str:
        with pytest.raises(DataError) as caught:
            read(*words)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


@pytest.fixture
def collected() -> list[Finding]:
    """Its `append` is a report that lets every reader go on."""
    return []
