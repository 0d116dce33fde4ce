"""`python -m condinst.ray`: segment the pictures of a manifest on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
import time

from condinst.errors import CondinstError, DataError
from condinst.ray.run import Summary, predict_manifest


def main() -> None:
    """Read the options and predict. An error that a user can cause is one line; exit codes are those of condinst."""
    parser = argparse.ArgumentParser(prog="python -m condinst.ray", description=__doc__)
    parser.add_argument("manifest", help="text file with a path or URI on each line, or Parquet file with a column")
    parser.add_argument("--out", required=True, help="folder of the Parquet files: a path or URI")
    parser.add_argument("--model", default="nuclei", help="name, folder or file of the model (default: nuclei)")
    parser.add_argument("--actors", type=int, default=2, help="processes, with one CPU each (default: 2)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each process (default: 0)")
    parser.add_argument("--batch", type=int, default=1, help="pictures of a pass through the network (default: 1)")
    parser.add_argument("--column", default="source", help="column of a Parquet manifest (default: source)")
    parser.add_argument("--shard-size", type=int, default=1000, help="pictures of a file (default: 1000)")
    parser.add_argument("--conf", type=float, default=0.5, help="lowest score to keep (default: 0.5)")
    given = vars(parser.parse_args())
    begun = time.perf_counter()
    try:
        done = predict_manifest(**given, told=_show)
        seconds = time.perf_counter() - begun
        _say(
            f"{done.pictures} pictures in {seconds:.1f} s, {done.instances} instances; {done.earlier} were done "
            f"before; results: {given['out']}"
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
