"""TensorBoard, Weights & Biases and MLflow, through Accelerate: what they need, where they write, when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from condinst.config import Config
from condinst.engine.planning.settings import leaves
from condinst.engine.run_folder.log import Tell
from condinst.errors import CondinstError, UsageError, first_line

PROJECT = "condinst"


def require_trackers(names: tuple[str, ...]) -> None:
    """Raise UsageError, naming the extra, for one that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UsageError(f"train.trackers: {name} is not installed; pip install 'condinst[{name}]'")


@contextmanager
def open_trackers(config: Config, folder: Path, accelerator: Accelerator) -> Iterator[Tell | None]:
    """Yield a function that sends numbers to the trackers of `accelerator`; None without trackers. Close them after.

    W&B writes to `folder`/wandb; MLflow goes where its own MLFLOW_TRACKING_URI says, else to `folder`/mlflow.db. Raises
    CondinstError for one that cannot start.
    """
    names: list[str] = list(config.train.trackers)
    if not names:
        yield None
        return
    if accelerator.is_main_process:
        _start(names, config, folder, accelerator)
    try:
        yield accelerator.log if accelerator.is_main_process else None
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _start(names: list[str], config: Config, folder: Path, accelerator: Accelerator) -> None:
    options: dict[str, dict[str, Any]] = {
        "wandb": {"dir": str(folder), "name": folder.name},
        "mlflow": {"run_name": folder.name, "logging_dir": None},
    }
    plain = (bool, int, float, str)  # lists become text
    settings = {
        key: value if isinstance(value, plain) else str(value) for key, value in leaves(config.model_dump(mode="json"))
    }
    if "mlflow" in names:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    try:
        accelerator.init_trackers(PROJECT, settings, options)
    except Exception as error:  # each has errors of its own: no login, no network, a folder that it cannot write
        raise CondinstError(f"train.trackers={names}: cannot start ({first_line(error):.200})") from error
