"""Boxes and masks: coordinates, indexing, outlines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle

from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.ops.bitmaps.rle import Region, draw_polygons, encode

HEIGHT, WIDTH = 40, 80
XYXY = torch.tensor([[10.0, 4, 30, 8], [0, 0, 80, 40]])


@pytest.fixture
def boxes() -> Boxes:
    return Boxes(XYXY, torch.tensor([0.75, 0.5]), torch.tensor([2, 0]), (HEIGHT, WIDTH))


def test_coordinates(boxes: Boxes) -> None:
    assert boxes.xywh.tolist() == [[20, 6, 20, 4], [40, 20, 80, 40]]  # the centre first
    torch.testing.assert_close(boxes.xyxyn, torch.tensor([[0.125, 0.1, 0.375, 0.2], [0, 0, 1, 1]]))
    torch.testing.assert_close(boxes.xywhn, torch.tensor([[0.25, 0.15, 0.25, 0.1], [0.5, 0.5, 1, 1]]))
    assert boxes.data.tolist() == [[10, 4, 30, 8, 0.75, 2], [0, 0, 80, 40, 0.5, 0]]
    assert boxes.data.dtype == torch.float32


def test_empty_boxes_have_coordinates() -> None:
    none = Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), (HEIGHT, WIDTH))
    for name, columns in {"xywh": 4, "xyxyn": 4, "xywhn": 4, "data": 6}.items():
        assert getattr(none, name).shape == (0, columns)
        assert getattr(none.numpy(), name).shape == (0, columns)
    assert list(none) == []
    masks = Masks((), (HEIGHT, WIDTH))
    assert (masks.xy, masks.xyn, masks.polygons) == ([], [], [])


def test_rows(boxes: Boxes) -> None:
    assert [float(box.conf) for box in boxes] == [0.75, 0.5]
    assert [box.cls.item() for box in boxes.numpy()] == [2, 0]
    assert boxes[-1].xyxy.tolist() == XYXY[[1]].tolist()
    assert boxes.cpu().numpy()[boxes.numpy().conf > 0.6].xyxy.tolist() == XYXY[[0]].tolist()
    with pytest.raises(IndexError):
        boxes[2]


def masks_of(*bitmaps: np.ndarray) -> Masks:
    return Masks(tuple(encode(Region(bitmap, 0, 0), HEIGHT, WIDTH) for bitmap in bitmaps), (HEIGHT, WIDTH))


def test_outlines_cover_all_parts_and_fill_holes() -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), dtype=bool)
    bitmap[2:12, 3:20] = bitmap[30:33, 60:70] = True
    filled = bitmap.copy()
    bitmap[5:8, 6:10] = False
    masks = masks_of(bitmap, np.zeros_like(bitmap))
    outline, nothing = masks.xy
    assert (outline.dtype, outline.ndim, outline.shape[1]) == (np.float32, 2, 2)
    assert nothing.shape == (0, 2)
    drawn = oracle.decode(dict(draw_polygons([outline.astype(float)], HEIGHT, WIDTH))).astype(bool)
    assert np.array_equal(drawn, filled)
    np.testing.assert_allclose(masks.xyn[0] * [WIDTH, HEIGHT], outline, rtol=1e-6)
    assert len(masks.polygons[0]) == 2
    assert [len(mask.xy[0]) for mask in masks] == [len(outline), 0]
    assert masks[1].rle == masks.rle[1:]
