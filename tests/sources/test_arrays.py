"""Arrays and tensors of every kind, as the picture files that hold the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.data.pictures.image import read_image
from condinst.errors import DataError, UsageError
from condinst.settings.kinds import Range
from condinst.sources.arrays import show_array, show_tensor

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
RGBA = RNG.integers(0, 256, (7, 9, 4), dtype=np.uint8)


def shown(array: np.ndarray, range: Range = "full") -> np.ndarray:
    pixels = show_array(array, "array", range).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*array.shape[:2], 3)
    return pixels


@pytest.mark.parametrize(
    "array",
    [GREY, RGB, RGBA, GREY > 99, RNG.integers(0, 65536, (7, 9), dtype=np.uint16)],
    ids=lambda array: array.dtype,
)
def test_arrays_are_read_as_files(array: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(array).save(tmp_path / "picture.png")
    assert np.array_equal(shown(array), read_image(tmp_path / "picture.png"))
    if array.ndim == 2:
        assert np.array_equal(shown(array[:, :, None]), shown(array))


def test_ranges() -> None:
    sixteen = RNG.integers(0, 65536, (7, 9, 3)).astype(np.uint16)
    assert np.array_equal(shown(sixteen), np.rint(sixteen / 257).astype(np.uint8))
    for array in (RGB / np.float64(255), (RGB / 255).astype(np.float32)):
        assert np.array_equal(shown(array), RGB)
    assert np.array_equal(shown(RGB.astype(np.float32), (0, 255)), RGB)
    assert np.array_equal(shown(RGB.astype(np.int64) * 3 - 20, (-20, 745)), RGB)
    assert np.array_equal(shown(RGB, (0, 10)), RGB)  # 8-bit pixels have a range of their own
    assert np.array_equal(shown(RGB[:, ::-1]), RGB[:, ::-1])


def test_transparency_of_wide_pixels() -> None:
    wide = RGBA.astype(np.uint16) * 257
    assert np.array_equal(shown(wide), shown(RGBA))
    assert np.array_equal(shown(RGBA / np.float64(255)), shown(RGBA))


@pytest.mark.parametrize("kind", ["u2", "f4", "f8"])
def test_the_byte_order_changes_nothing(kind: str) -> None:
    """FITS and many scientific files hold the high byte first."""
    array = RGB.astype(np.uint16) * 257 if kind == "u2" else (RGB / 255).astype(kind)
    assert np.array_equal(shown(array.astype(f">{kind}")), shown(array.astype(f"<{kind}")))
    assert np.array_equal(shown(array.astype(f">{kind}")), RGB)


def test_tensors() -> None:
    for tensor, expected in (
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255, RGB),
        (torch.from_numpy(GREY.copy()), shown(GREY)),
        (torch.from_numpy(GREY.copy())[None], shown(GREY)),
        (torch.from_numpy(RGBA).permute(2, 0, 1), shown(RGBA)),
        ((torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(), RGB),
    ):
        assert np.array_equal(show_tensor(tensor, "tensor").pixels, expected)
    half = (torch.from_numpy(RGB).permute(2, 0, 1) / 255).to(torch.bfloat16)
    assert np.abs(show_tensor(half, "tensor").pixels.astype(int) - RGB).max() <= 1  # 8 bits of mantissa


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (
            RGB.astype(np.float32),
            DataError,
            r"a: floats from [0-9]+ to [0-9]+ are not in 0 to 1; state range=",
        ),
        (RGB / 255 - 0.5, DataError, "are not in 0 to 1"),
        (np.full((3, 3), np.nan), DataError, "a: every pixel is NaN"),
        (np.full((3, 3), np.inf), DataError, "a: every pixel is NaN or infinite"),
        (RGB.astype(np.int32), UsageError, "a: int32 does not state a range"),
        (RGB.astype(complex), UsageError, "a: expected uint8, uint16, bool or float"),
        (RGB.transpose(2, 0, 1), UsageError, r"got \(3, 7, 9\); use transpose\(1, 2, 0\)"),
        (np.zeros((7, 9, 2), np.uint8), UsageError, r"expected .* got \(7, 9, 2\)$"),
        (np.zeros((0, 9, 3), np.uint8), UsageError, r"got \(0, 9, 3\)"),
        (np.zeros(9, np.uint8), UsageError, r"got \(9,\)"),
    ],
)
def test_what_is_no_picture(array: np.ndarray, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        show_array(array, "a")


def test_tensors_that_are_no_pictures() -> None:
    with pytest.raises(UsageError, match=r"expected \(C, H, W\) .* got \(7, 9, 3\); use permute\(2, 0, 1\)"):
        show_tensor(torch.from_numpy(RGB), "t")
    with pytest.raises(UsageError, match=r"expected \(C, H, W\)"):
        show_tensor(torch.zeros(1, 3, 7, 9), "t")
    with pytest.raises(UsageError, match="expected"):
        show_tensor(torch.zeros(3, 0, 9), "t")
