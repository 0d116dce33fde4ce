"""`condinst` with a predictor that fails in each request with conf=0.9, and for good after one with conf=0.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from condinst.__main__ import main
from condinst.inference.result import Result
from condinst.predictor import Predictor

stream, call = Predictor.stream, Predictor.__call__
dead: list[bool] = []


def faulty_stream(self: Predictor, *arguments: Any, **settings: Any) -> Iterator[Result]:
    if settings.get("conf") == 0.1:
        dead.append(True)
    if settings.get("conf") in (0.1, 0.9):
        raise RuntimeError("an unexpected error")
    return stream(self, *arguments, **settings)


def faulty_call(self: Predictor, *arguments: Any, **settings: Any) -> Any:
    if dead:
        raise RuntimeError("CUDA error: device-side assert triggered")
    return call(self, *arguments, **settings)


Predictor.stream, Predictor.__call__ = faulty_stream, faulty_call  # type: ignore[method-assign,assignment]

if __name__ == "__main__":
    main()
