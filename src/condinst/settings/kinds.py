"""Kinds of values in the settings, and the base class of a group of settings."""

from __future__ import annotations

import math
import reprlib
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from condinst.errors import UsageError, one_line

# The upper bounds lie far beyond any real use. They stop a mistyped or hostile file from exhausting the memory.
MOST_DETECTIONS = 25_000  # in a picture
MOST = 2**32 - 1  # also the largest seed that NumPy accepts
Fraction = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Convs = Annotated[int, Field(ge=0, le=64)]
ClassName = Annotated[str, Field(min_length=1, max_length=1000)]
Text = Annotated[str, Field(max_length=100_000)]
About = Annotated[dict[Text, Text], Field(max_length=1000)]
Side = Annotated[int, Field(ge=1, le=16_384)]  # a side of a picture, in pixels
AboveZero = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(gt=0, le=64)]  # of a size
Shift = Annotated[int, Field(ge=0, le=255)]  # of a value in 8 bits
Sides = Annotated[tuple[Side, ...], Field(min_length=1, max_length=1000)]
Milestones = Annotated[tuple[Fraction, ...], Field(max_length=1000)]
Trackers = Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], Field(max_length=3)]
Extent = Annotated[float, Field(allow_inf_nan=True)]  # the only kind of number that may be infinite

FULL: Literal["full"] = "full"


def check_range(value: object) -> Range:
    """Turn "full", "auto", "LOW,HIGH" or a pair of numbers into a value for `InputConfig.range`.

    Example: `check_range("0,4095")` gives `(0.0, 4095.0)`. Raises UsageError for any other value.
    """
    try:
        return _range(value)
    except ValueError as error:
        raise UsageError(f"range: {error}") from None


def _range(value: object) -> Range:
    if value == "full" or value == "auto":
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(f"expected full, auto or LOW,HIGH, such as 0,4095, got {show(value)}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"expected two finite numbers, the lower one first, got {show(value)}")
    return low, high


# The pixel values that become black and white in a picture of more than 8 bits; see `InputConfig`.
Range = Annotated[Literal["full", "auto"] | tuple[float, float], BeforeValidator(_range)]


class Section(BaseModel):
    """A frozen group of settings.

    It refuses unknown keys. It refuses infinity and NaN, except in an `Extent`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def show(value: object) -> str:
    """The `repr` of `value`, cut to 80 characters. The cost does not grow with the size of `value`."""
    return one_line(_SHORT.repr(value))[:80]
