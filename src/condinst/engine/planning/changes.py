"""Compare the settings of a resumed run with those before.

A change that the state of the run cannot follow is an error. A note names the other changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from condinst.config import Config
from condinst.engine.planning.settings import leaves
from condinst.errors import UsageError, some
from condinst.settings.kinds import show
from condinst.weights.names import CONFIG_FILE

MOST = 6  # changes named in one line
# what a run yields does not depend on these
HARMLESS = (
    "about.",
    "input.seen",
    "input.tile",
    "input.overlap",
    "train.workers",
    "train.recompute",
    "train.log_every",
    "train.checkpoint_every",
    "train.trackers",
    "train.half",
)


def compare_settings(folder: Path, now: Config, iteration: int) -> list[str]:
    """A line on the settings that differ from those in the folder's config.yaml; none if nothing that counts does.

    Raises UsageError for those that the weights and the optimizer of iteration `iteration` do not fit.
    """
    if now.train.iterations < iteration:
        raise UsageError(
            f"train.iterations={now.train.iterations}: the run in {folder} has already done {iteration}; give at "
            f"least {iteration}"
        )
    path = folder / CONFIG_FILE
    if not path.is_file():
        return []
    earlier = Config.from_yaml(path)
    before, wanted = (dict(leaves(config.model_dump(mode="json"))) for config in (earlier, now))
    changed = {
        key: f"{key} {show(before.get(key))} → {show(wanted.get(key))}"
        for key in before | wanted
        if before.get(key) != wanted.get(key) and not key.startswith(HARMLESS)
    }
    averaged = bool(before["train.ema_decay"]) == bool(now.train.ema_decay)
    for key, words in changed.items():
        if key.startswith("model.") or key == "train.optimizer" or (key == "train.ema_decay" and not averaged):
            raise UsageError(
                f"{words}: the run in {folder} cannot continue with this change; keep the value, or choose another "
                "--out"
            )
    if not changed:
        return _defaults(earlier, path)
    listing = some(list(changed.values()), MOST)
    return [
        *_defaults(earlier, path),
        f"note: settings changed since the last start: {listing}; the result differs from a run with one of them "
        "throughout",
    ]


def _defaults(config: Config, path: Path) -> list[str]:
    """Return a note on the settings that a file lacks: it is older than they are, or the end of the file is lost."""
    lacking = list(_unset(config))
    if not lacking:
        return []
    listing = some(lacking, MOST)
    return [f"note: {path} has no {listing}; condinst takes the defaults. If the file is damaged, restore it"]


def _unset(settings: BaseModel, place: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name not in settings.model_fields_set:
            yield f"{place}{name}"
        elif isinstance(value, BaseModel):
            yield from _unset(value, f"{place}{name}.")
