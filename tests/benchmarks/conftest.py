"""Shared by the tests of benchmarks/."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def modules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts of benchmarks/ that the test's file names in MODULES; they import each other by name."""
    names: tuple[str, ...] = request.module.MODULES
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]
