"""Conversion from sRGB to CIE L*a*b*, where distances match the differences that people see."""

from __future__ import annotations

import torch
from torch import Tensor

# The matrix of sRGB (IEC 61966-2-1) and its white point: D65, 2° observer.
RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
KNEE = 6 / 29  # below this value CIE replaces the cube root by a straight line


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB (N, 3, h, w) in [0, 255] to CIE L*a*b* of the same shape.

    L lies in [0, 100]. For greys, a and b are 0.
    """
    scaled = rgb / 255
    linear = torch.where(scaled > 0.04045, ((scaled + 0.055) / 1.055) ** 2.4, scaled / 12.92)
    # a sum instead of a matrix product, because autocast would round a matrix product
    xyz = (linear[:, None] * linear.new_tensor(RGB_TO_XYZ)[:, :, None, None]).sum(dim=2)
    relative = xyz / xyz.new_tensor(WHITE)[:, None, None]
    root = torch.where(relative > KNEE**3, relative ** (1 / 3), relative / (3 * KNEE**2) + 4 / 29)
    x, y, z = root.unbind(dim=1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)
