"""`condinst models`: what comes with the package."""

from __future__ import annotations

import typer

from condinst.cli.options import Json

SHOWN = ("classes", "licence", "box AP", "mask AP")


def models(json: Json = False) -> None:
    """List the shipped models: their classes, licence and accuracy on images held out from training."""
    from json import dumps

    from condinst.cli.output import print_table
    from condinst.config import Config
    from condinst.weights.names import CONFIG_FILE, ZOO, shipped_names

    rows = {}
    for name in shipped_names():
        config = Config.from_yaml(ZOO / name / CONFIG_FILE)
        rows[name] = {"classes": ", ".join(config.model.classes), **config.about}
    if json:
        typer.echo(dumps(rows))
        return
    print_table(
        ("name", *SHOWN), [(name, *(row.get(key, "–") for key in SHOWN)) for name, row in rows.items()], numbers_from=3
    )
