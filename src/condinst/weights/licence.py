"""Print the licence of weights with restrictions on their use."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from condinst.config import Config
from condinst.errors import one_line

RESTRICTION = "non-commercial"


def announce_licence(config: Config, source: str) -> None:
    """Print the licence of weights that do not allow commercial use on standard error, at their first use.

    An empty file in the folder `condinst` of torch's cache records the first use. source: the name of weights without a
    name in their settings.
    """
    licence = config.about.get("licence", "")
    if RESTRICTION not in licence:
        return
    name = config.about.get("name", source)
    place = config.about.get("source") or config.about.get("origin", "")
    line = f"licence of {name}: {licence}" + (f" (from {place})" if place else "")
    if _is_new(line):
        print(one_line(line), file=sys.stderr)


def _is_new(line: str) -> bool:
    mark = Path(torch.hub.get_dir()) / "condinst" / f"licence-{hashlib.sha256(line.encode()).hexdigest()[:16]}"
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True  # without a record, print the licence again
    return True
