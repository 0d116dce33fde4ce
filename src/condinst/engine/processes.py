"""The processes that train together, and on what: device, precision, patience with one another."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration, parse_flag_from_env

from condinst.config import Config
from condinst.engine.run_folder.trackers import require_trackers
from condinst.errors import UsageError, first_line

# the others wait while the main process measures; if one dies, their launcher ends them all
LONGEST_WAIT = timedelta(days=7)
TENSORBOARD = "tensorboard"  # its folder in the run's


def join_processes() -> PartialState:
    """This process among those of its run. Nothing may ask Accelerate before: whoever asks first decides."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=LONGEST_WAIT)


def make_accelerator(config: Config, folder: Path | None = None) -> Accelerator:
    """Processes, device, precision and trackers, which write to `folder`.

    Raises UsageError where they cannot be had, or the batch not shared evenly.
    """
    train = config.train
    require_trackers(train.trackers)
    join_processes()
    project = ProjectConfiguration(str(folder), logging_dir=str(folder / TENSORBOARD)) if folder else None
    try:
        accelerator = Accelerator(
            mixed_precision=train.precision, log_with=list(train.trackers) or None, project_config=project
        )
    except ValueError as error:  # no such precision on this device, or another one earlier in the same process
        raise UsageError(f"train.precision={train.precision}: {first_line(error)}") from None
    if train.batch_size % accelerator.num_processes:
        raise UsageError(
            f"train.batch_size={train.batch_size} cannot be shared by {accelerator.num_processes} processes"
        )
    return accelerator
