"""`python -m condinst.ray`: segment the pictures of a manifest on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from condinst.errors import CondinstError, DataError
from condinst.ray.run import Summary, predict_manifest

OPTIONS: dict[str, tuple[Any, str]] = {  # name → default and help
    "model": ("nuclei", "name, folder or file of the model"),
    "actors": (2, "processes, with one CPU each"),
    "gpus": (0.0, "GPUs of each process"),
    "batch": (1, "pictures of a pass through the network"),
    "column": ("source", "column of a Parquet manifest"),
    "shard-size": (1000, "pictures of a file"),
    "conf": (0.5, "lowest score to keep"),
}


def main() -> None:
    """Read the options and predict. Errors and exit codes are those of `condinst`."""
    parser = argparse.ArgumentParser(prog="python -m condinst.ray", description=__doc__)
    parser.add_argument("manifest", help="text file with a path or URI on each line, or Parquet file with a column")
    parser.add_argument("--out", required=True, help="folder of the Parquet files: a path or URI")
    for name, (default, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: {default})")
    begun = time.perf_counter()
    try:
        done = predict_manifest(**vars(parser.parse_args()), told=_show)
        seconds = time.perf_counter() - begun
        _say(
            f"{done.pictures} pictures in {seconds:.1f} s, {done.instances} instances; {done.earlier} were done before"
        )
        if done.left_out:
            raise DataError(f"{done.left_out} pictures could not be used; their rows say why ('left_out')")
    except CondinstError as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted; to continue, run the same command")
        sys.exit(130)


def _show(done: Summary) -> None:
    if sys.stderr.isatty():
        print(f"\r{done.earlier + done.pictures} pictures   ", end="", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
