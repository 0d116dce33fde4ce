"""The number of groups of a GroupNorm."""

from __future__ import annotations

import math

GROUPS = 32


def norm_groups(channels: int) -> int:
    """The number of GroupNorm groups: 32, as published, or the greatest common divisor of 32 and `channels`.

    Each group has at least two channels where possible, because one value has no standard deviation.
    """
    groups = math.gcd(GROUPS, channels)
    return groups if groups < channels or channels == 1 else max(groups // 2, 1)
