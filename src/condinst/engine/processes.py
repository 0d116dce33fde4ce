"""Set up the training processes: device, precision and time limit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, parse_flag_from_env

from condinst.config import Config
from condinst.engine.run_folder.trackers import require_trackers
from condinst.errors import UsageError, first_line

# The other processes wait while the main process measures. If a process dies, the launcher ends all processes.
LONGEST_WAIT = timedelta(days=7)
TENSORBOARD = "tensorboard"  # folder of TensorBoard's files in the run folder


def join_processes() -> PartialState:
    """Return the state of this process in its run.

    This call must be the first call to Accelerate, because Accelerate keeps the processes of the first call.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=LONGEST_WAIT)


def make_accelerator(config: Config, folder: Path | None = None) -> Accelerator:
    """Set up processes, device, precision and trackers. The trackers write to `folder`.

    Raises UsageError if one of them is not available or the batch cannot be split evenly.
    """
    train = config.train
    require_trackers(train.trackers)
    join_processes()
    _forget_precision(train.precision)
    project = ProjectConfiguration(str(folder), logging_dir=str(folder / TENSORBOARD)) if folder else None
    try:
        accelerator = Accelerator(
            mixed_precision=train.precision, log_with=list(train.trackers) or None, project_config=project
        )
    except ValueError as error:  # the device lacks this precision
        raise UsageError(f"train.precision={train.precision}: {first_line(error)}") from None
    if train.batch_size % accelerator.num_processes:
        raise UsageError(
            f"train.batch_size={train.batch_size} cannot be divided by {accelerator.num_processes} processes"
        )
    return accelerator


def _forget_precision(wanted: str) -> None:
    """Let Accelerate take another precision than in the previous run of this Python process. It keeps the processes."""
    held = AcceleratorState._shared_state
    if held and held.get("_mixed_precision") != wanted:
        AcceleratorState._reset_state()
