"""The program `condinst`, also as `python -m condinst`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C while Python still imports the package ends in one line, too."""
    try:
        from condinst.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
