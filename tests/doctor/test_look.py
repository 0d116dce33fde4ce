"""Looking at the pictures of a data set: several processes, and the short cut past objects without a finding."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import condinst.doctor.checks.shapes as shapes
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Instance, Polygons, Sample
from condinst.doctor.checks.shapes import check_shapes, draw
from condinst.doctor.look import ENOUGH, choose_processes, look_at_all

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"


def test_two_processes_find_what_one_finds() -> None:
    samples = read_coco(NUCLEI / "train.json", NUCLEI / "images").samples
    samples = tuple(samples) * 5  # more than one batch
    config = Config()
    alone = list(look_at_all(samples, config, 1))
    for one, other in zip(alone, look_at_all(samples, config, 2), strict=True):
        assert one[0] == other[0]
        assert one.print is not None
        assert other.print is not None
        assert one.print.digest == other.print.digest
        assert np.array_equal(one.print.thumbnail, other.print.thumbnail)
        assert one[2:] == other[2:]
    assert choose_processes(ENOUGH - 1) == 1


def test_stopping_early_ends_the_processes() -> None:
    samples = read_coco(NUCLEI / "train.json", NUCLEI / "images").samples * 20
    looks = look_at_all(samples, Config(), 2)
    next(looks)
    assert multiprocessing.active_children()
    looks.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("seed", range(3))
def test_objects_passed_over_have_no_finding(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """check_shapes looks closely at some objects only. Looking at all of them finds the same."""
    rng = np.random.default_rng(seed)
    instances = []
    for number in range(150):
        parts = tuple(
            rng.uniform(-3, 45, 2) + rng.uniform(-6, 6, (rng.integers(3, 7), 2)) for _ in range(rng.choice([1, 1, 2]))
        )
        points = np.concatenate(parts)
        box = np.concatenate((points.min(0), points.max(0))) + rng.choice([0.0, 0.0, 0.0, 3.0, -9.0], 4)
        shape = Polygons(parts) if rng.random() < 0.9 else None
        instances.append(Instance(0, tuple(box.tolist()), shape, False, number))
    sample = Sample(Path("a.png"), 1, 42, 40, tuple(instances))
    drawn = draw(sample)
    found = list(check_shapes(sample, drawn))
    passed_over = len(instances) - len(shapes._unusual(sample, drawn, set()))
    monkeypatch.setattr(shapes, "_unusual", lambda *_: range(len(instances)))
    assert found == list(check_shapes(sample, drawn))
    assert passed_over
    assert {it.kind for it in found} >= {"outside", "box-mismatch", "zero-area"}


def test_a_check_loads_no_torch() -> None:
    """Loading it would take seconds and half a gigabyte in each process."""
    code = (
        "import sys; from condinst.cli.main import main\n"
        f"sys.argv = ['condinst', 'data', 'check', {str(NUCLEI)!r}, '--json']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'torchvision', 'timm', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b'"findings"' in done.stdout
