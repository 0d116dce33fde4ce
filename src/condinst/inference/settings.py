"""Settings that the caller of a predictor may change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TypedDict

from condinst.config import Config
from condinst.errors import UsageError
from condinst.inference.tiles.plan import overlap_pixels
from condinst.settings.kinds import Range, check_range
from condinst.settings.prediction import LARGEST_TILE, SMALLEST_TILE

Classes = str | int | Iterable[str | int]
Size = int | tuple[int, int] | list[int]


class CallSettings(TypedDict, total=False):
    """Settings that a call may change. `Predictor.__call__` describes each setting."""

    conf: float | None
    iou: float | None
    max_detections: int | None
    classes: Classes | None
    size: Size | None
    range: Range | str | None
    tile: int | str | None
    overlap: float | None


def check_names(settings: Mapping[str, object]) -> None:
    """Raise TypeError for a keyword that is not a setting of a call."""
    unknown = [name for name in settings if name not in CallSettings.__annotations__]
    if unknown:
        known = ", ".join(CallSettings.__annotations__)
        raise TypeError(f"unexpected keyword argument '{unknown[0]}'; a call takes {known}, batch and on_error")


def sides(size: Size | None) -> tuple[int | None, int | None]:
    """Return the shorter and the longer side of `size`, with None for a side that is not given. Raises UsageError."""
    if size is None:
        return None, None
    values = list(size) if isinstance(size, tuple | list) else [size]
    if not 1 <= len(values) <= 2 or not all(_is_count(value) for value in values) or values != sorted(values):
        raise UsageError(f"size: expected the shorter side in pixels, or (shorter, longer), got {size!r:.60}")
    return values[0], values[1] if len(values) == 2 else None


def check_score(name: str, value: float | None) -> None:
    """Raise UsageError unless `value` is None or a number from 0 to 1."""
    if value is not None and (not isinstance(value, Real) or not 0 <= value <= 1):
        kind = "a score" if name == "conf" else "a number"
        raise UsageError(f"{name}: expected {kind} from 0 to 1, got {value!r:.60}")


def with_settings(
    config: Config,
    conf: float | None = None,
    shorter: int | None = None,
    longer: int | None = None,
    max_detections: int | None = None,
    nms: str | None = None,
    range: Range | str | None = None,
    iou: float | None = None,
    tile: int | str | None = None,
    overlap: float | None = None,
) -> Config:
    """Return `config` with the caller's settings. None keeps a setting. Raises UsageError."""
    check_score("conf", conf)
    check_score("iou", iou)
    for name, value in (("shorter", shorter), ("longer", longer), ("max_detections", max_detections)):
        if value is not None and not _is_count(value):
            raise UsageError(f"{name}: expected a whole number from 1 on, got {value!r:.60}")
    if config.input.letterbox or config.input.stretch:  # the input is a square
        shorter, longer = shorter or longer, longer or shorter
    check_tile(tile)
    check_overlap(overlap)
    if (shorter or longer) and tile is None and config.input.tile == "auto":
        tile = "off"  # the caller chose the size at which the network sees the whole picture
    # the score may be the square root of the compared value; lower the threshold slightly against rounding
    threshold = None if conf is None else (conf**2 if config.detect.score_root else conf) * (1 - 1e-6)
    lower = threshold is not None and config.detect.nms == "matrix" and threshold < config.detect.decayed_threshold
    settings = {
        "detect.score_threshold": threshold,
        "detect.decayed_threshold": threshold if lower else None,
        "input.shorter": shorter,
        "input.longer": longer,
        "detect.max_detections": max_detections,
        "detect.nms": nms,
        "detect.nms_threshold": iou,
        "input.range": None if range is None else _as_yaml(check_range(range)),
        "input.tile": tile,
        "input.overlap": overlap,
    }
    overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
    changed = config.with_overrides(overrides) if overrides else config
    if isinstance(changed.input.tile, int):
        overlap_pixels(changed.input.tile, changed.input.overlap)  # checks that they fit
    return changed


def check_tile(tile: int | str | None) -> None:
    """Raise UsageError unless `tile` is None, a number of pixels, "auto" or "off"."""
    text = str(tile)
    is_side = re.fullmatch("[0-9]{1,9}", text) and SMALLEST_TILE <= int(text) <= LARGEST_TILE
    known = tile is None or text in {"auto", "off"} or is_side
    if not known or isinstance(tile, bool):
        raise UsageError(
            f"tile: expected a side from {SMALLEST_TILE} to {LARGEST_TILE} pixels, 'auto' or 'off', got {tile!r:.60}"
        )


def check_overlap(overlap: float | None) -> None:
    """Raise UsageError unless `overlap` is None, or a number of pixels or part of a tile that some tile allows."""
    number = isinstance(overlap, Real) and not isinstance(overlap, bool)
    if overlap is not None and not (number and 0 <= overlap <= LARGEST_TILE // 2):
        raise UsageError(f"overlap: expected a part of the tile from 0 to 0.5, or pixels, got {overlap!r:.60}")


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _as_yaml(range: Range) -> str:
    return range if isinstance(range, str) else str(list(range))
