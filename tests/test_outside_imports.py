"""Modules that programs outside the package import stay where they are, whatever the folders inside look like."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("condinst.cli.main", "main"),
        ("condinst.data.image", "read_image"),
        ("condinst.data.open", "open_data"),
        ("condinst.ops.rle", "areas"),
    ],
)
def test_a_program_can_import(module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))
