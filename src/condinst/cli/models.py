"""`condinst models`: list the shipped and the published models."""

from __future__ import annotations

import typer

from condinst.cli.options import Json
from condinst.cli.terminal.say import say

SHOWN = ("commercial use", "licence", "box AP", "mask AP")


def models(json: Json = False) -> None:
    """List the shipped and the published models.

    condinst downloads a published model at its first use. The accuracy of a shipped model was measured on images that
    were held out from training. The accuracy of a published model is the publisher's number on COCO val2017.
    """
    from json import dumps

    from condinst.cli.terminal.output import print_table
    from condinst.config import Config
    from condinst.weights.catalogue import PUBLISHED, commercial_use
    from condinst.weights.names import CONFIG_FILE, ZOO, measured_on, shipped_names

    shipped = {}
    for name in shipped_names():
        config = Config.from_yaml(ZOO / name / CONFIG_FILE)
        shipped[name] = {"classes": ", ".join(config.model.classes), **config.about, "measured on": measured_on(name)}
    published = {checkpoint.short: {"classes": "the 80 of COCO", **checkpoint.about} for checkpoint in PUBLISHED}
    for row in (*shipped.values(), *published.values()):
        row["commercial use"] = commercial_use(row.get("licence", ""))
    if json:
        typer.echo(dumps(shipped | published))
        return
    columns = ("classes", *SHOWN)
    print_table(("shipped", *columns), _rows(shipped, columns), numbers_from=4)
    for name, row in shipped.items():
        say(f"{name}: measured on {row['measured on']}; with at most 100 and at most 500 detections per image")
    print_table(("published, for COCO's 80 classes", *SHOWN), _rows(published, SHOWN), numbers_from=3)
    say("The first use of a published model downloads it. The publishers measured these models on COCO val2017.")


def _rows(models: dict[str, dict[str, str]], columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    # the lines below the tables name the images and the publisher behind each accuracy
    return [(name, *(row.get(key, "–").partition(" on COCO")[0] for key in columns)) for name, row in models.items()]
