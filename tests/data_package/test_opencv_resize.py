"""The resize of OpenCV 5.0 (cv2.resize with INTER_LINEAR), bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from condinst.data.opencv_resize import resize_like_opencv
from condinst.data.sample import Array8

# size of the picture, size of the result, CRC-32 of what cv2 5.0.0 makes of it
RECORDED = [
    ((13, 17), (9, 11), 1090688600),
    ((7, 5), (20, 31), 4152863543),
    ((20, 20), (10, 10), 3585990626),  # halved: cv2 takes the mean of four
    ((1, 9), (4, 3), 76527889),
    ((9, 1), (3, 8), 652853594),
    ((33, 47), (32, 46), 4186235203),
    ((6, 500), (4, 320), 3595194024),
    ((40, 30), (11, 90), 2665932357),
    ((120, 160), (45, 60), 2006853822),
    ((5, 5), (5, 9), 3053136602),
]


def picture(height: int, width: int) -> Array8:
    draw = np.random.default_rng(height * 1000 + width)
    return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "wanted", "checksum"), RECORDED)
def test_recorded_pictures(size: tuple[int, int], wanted: tuple[int, int], checksum: int) -> None:
    resized = resize_like_opencv(picture(*size), *wanted)
    assert (resized.shape, resized.dtype) == ((*wanted, 3), np.uint8)
    assert zlib.crc32(np.ascontiguousarray(resized).tobytes()) == checksum


def test_against_opencv_itself() -> None:
    cv2 = pytest.importorskip("cv2")
    draw = np.random.default_rng(0)
    for _ in range(200):
        (h, w), (height, width) = draw.integers(1, 200, 2), draw.integers(1, 300, 2)
        array = picture(int(h), int(w))
        expected = cv2.resize(array, (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(resize_like_opencv(array, int(height), int(width)), expected.reshape(height, width, 3))


def test_the_same_size_is_the_same_picture() -> None:
    array = picture(6, 4)
    assert np.array_equal(resize_like_opencv(array, 6, 4), array)
