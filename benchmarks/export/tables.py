"""The tables about exported programs in the documentation, from benchmarks/results/."""

from __future__ import annotations

from benchmarks.export.parity import FILES, Report
from benchmarks.markdown import table


def parity_table(report: Report) -> str:
    """One row for each model and runtime: the largest differences over all sizes and batches."""
    models = dict.fromkeys(row.model for row in report.differences)
    lines = []
    for model in models:
        for runtime in FILES:
            rows = [row for row in report.differences if (row.model, row.runtime) == (model, runtime)]
            mine, theirs = (sum(row.instances[who] for row in rows) for who in (0, 1))
            lines.append(
                (
                    model,
                    runtime,
                    f"{mine:,}" if mine == theirs else f"{mine:,} and {theirs:,}",
                    f"{max(row.box for row in rows):.0e}",
                    f"{max(row.score for row in rows):.0e}",
                    f"{sum(row.cells for row in rows)} of {sum(row.of for row in rows):,}",
                )
            )
    return table(("model", "runtime", "instances", "box (px)", "score", "differing mask cells"), lines, words=2)
