"""How long a cold process takes: the command line's help and version, the import, the shipped model's first prediction.

    python -m benchmarks.speed.startup

Every round starts new processes; the files they read are in the system's cache after the first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.speed.measure import RESULTS, ROOT, Out, Rounds, race, run_benchmark, save, set_threads
from condinst.errors import CondinstError

PICTURE = ROOT / "examples" / "images" / "nuclei" / "fluorescence.png"
PYTHON, CONDINST = sys.executable, str(Path(sys.executable).with_name("condinst"))
PREDICT = "import sys; from condinst import Predictor; assert len(Predictor('nuclei')(sys.argv[1]))"
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "condinst --version": [CONDINST, "--version"],
    "condinst --help": [CONDINST, "--help"],
    "import condinst": [PYTHON, "-c", "import condinst"],
    "import torch, torchvision": [PYTHON, "-c", "import torch, torchvision"],
    "first prediction": [PYTHON, "-c", PREDICT, str(PICTURE)],
    "condinst predict": [CONDINST, "predict", str(PICTURE), "--model", "nuclei", "--out"],
}


def main(rounds: Rounds = 7, out: Out = RESULTS) -> None:
    """Time of each command."""
    set_threads(0)
    with tempfile.TemporaryDirectory() as folder:
        commands = COMMANDS | {"condinst predict": [*COMMANDS["condinst predict"], folder]}
        contestants = {who: partial(run, line) for who, line in commands.items()}
        measurements = race(contestants, "start-up", rounds)
    settings = {
        "first prediction": f"the shipped nuclei model on {PICTURE.relative_to(ROOT)}, mode exact",
        "condinst predict": "the same from the command line, pictures and results.json written",
    }
    save("startup", "cpu", settings, measurements, out)


def run(line: list[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CondinstError(f"{' '.join(line)}: {said[-1] if said else f'ended by {done.returncode}'}")


if __name__ == "__main__":
    run_benchmark(main)
