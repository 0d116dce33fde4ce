"""The recorded comparisons of exported programs with their models, and the table on the page about export."""

from __future__ import annotations

from pathlib import Path

from benchmarks.export import parity, recipes
from benchmarks.export.tables import parity_table
from benchmarks.facts import RESULTS, read_facts
from condinst.weights.names import shipped_names

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"


def test_programs_are_the_models() -> None:
    """Every model, runtime, size and batch; the same instances, and masks that differ by rounding alone."""
    rows = read_facts(RESULTS / "export-parity.json", parity.Report).differences
    cases = [(row.model, row.runtime, (row.height, row.width), row.batch) for row in rows]
    models = (*shipped_names(), parity.R50)
    assert sorted(cases) == sorted(
        (model, runtime, size, batch)
        for model in models
        for runtime in parity.FILES
        for size in parity.SIZES
        for batch in parity.BATCHES
    )
    for row in rows:
        assert row.instances[0] == row.instances[1] > 0
        assert row.alone == 0
        assert row.box <= 1e-6 * max(row.height, row.width)  # float32 keeps about seven digits of a coordinate
        assert row.score <= 1e-4
        assert row.close <= 1e-4 < 1 < row.typical


def test_the_page_shows_them() -> None:
    assert parity_table(read_facts(RESULTS / "export-parity.json", parity.Report)) in PAGE.read_text(encoding="utf-8")


def test_every_recipe_was_exported() -> None:
    rows = read_facts(RESULTS / "export-recipes.json", recipes.Report).rows
    assert sorted(name for row in rows for name in row.recipes) == recipes.exported_names()
    for row in rows:
        assert row.error == ""
        assert row.refused == (("openvino",) if "dcni3" in row.recipes[0] else ())
        assert len(row.differences) == 2 - len(row.refused)
        for one in row.differences:
            assert one.instances[0] == one.instances[1] > 20
            # the random weights of a deep RTMDet-Ins enlarge the rounding of each layer
            limit = 5e-2 if row.recipes[0].startswith("rtmdet") else 1e-2
            assert (one.alone, one.box <= limit, one.score <= 1e-3) == (0, True, True)
