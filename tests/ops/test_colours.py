"""sRGB → Lab against published values and the definition of sRGB by its primaries."""

import numpy as np
import pytest
import torch

from condinst.ops.colours import rgb_to_lab

# the colours of the sRGB cube's corners and a grey, as colour tables give them for D65
PUBLISHED = {
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (0, 255, 255): (91.11, -48.09, -14.13),
    (255, 0, 255): (60.32, 98.23, -60.82),
    (255, 255, 255): (100, 0, 0),
    (128, 128, 128): (53.59, 0, 0),
    (0, 0, 0): (0, 0, 0),
}


def convert(colours: np.ndarray) -> np.ndarray:
    """(P, 3) → (P, 3), as a picture of one row."""
    picture = torch.from_numpy(colours).double().T[None, :, None]
    return rgb_to_lab(picture)[0, :, 0].T.numpy()


def from_primaries(colours: np.ndarray) -> np.ndarray:
    """The definition: chromaticities of the primaries and of D65, the colour's curve, CIE's cube root in 1/κ form."""
    xy = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06], [0.3127, 0.3290]])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T
    primaries, white = columns[:, :3], columns[:, 3]
    matrix = primaries * np.linalg.solve(primaries, white)
    values = []
    for colour in colours / 255:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        ratios = matrix @ linear / white
        x, y, z = (r ** (1 / 3) if r > 216 / 24389 else (24389 / 27 * r + 16) / 116 for r in ratios)
        values.append((116 * y - 16, 500 * (x - y), 200 * (y - z)))
    return np.array(values)


def test_published_values() -> None:
    found = convert(np.array(list(PUBLISHED)))
    np.testing.assert_allclose(found, list(PUBLISHED.values()), atol=0.02)


def test_definition() -> None:
    """Every fifteenth level of each channel; the matrix's six published digits leave hundredths."""
    levels = np.arange(0, 256, 15)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(convert(colours), from_primaries(colours), atol=0.02)


def test_greys_have_no_colour_and_rise() -> None:
    greys = convert(np.arange(256)[:, None].repeat(3, 1))
    assert np.abs(greys[:, 1:]).max() < 0.02
    assert (np.diff(greys[:, 0]) > 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 5)])
def test_shape_and_type(shape: tuple[int, ...]) -> None:
    picture = torch.randint(0, 256, shape).float()
    found = rgb_to_lab(picture)
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), rgb_to_lab(picture.double()), atol=1e-3)


def test_autocast_does_not_round() -> None:
    picture = torch.randint(0, 256, (1, 3, 8, 8)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rgb_to_lab(picture)
    assert torch.equal(found, rgb_to_lab(picture))
