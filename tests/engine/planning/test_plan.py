"""Settings chosen from data and machine: each rule by hand, what is given wins, what a picture takes is true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.engine.planning.machine import look_at_machine
from condinst.engine.planning.plan import Machine, Need, Plan, expected_memory, make_plan, pictures_in_step
from condinst.engine.planning.settings import base_settings, given_keys, is_planned
from condinst.engine.planning.statistics import Statistics, measure_data, share_of_levels
from condinst.engine.planning.trial import kept_bytes, largest_canvas, measure_need
from condinst.engine.processes import join_processes
from condinst.recipes import load_recipe
from condinst.weights.folder import Stored

NUCLEI = Path(__file__).parent.parent.parent / "data" / "nuclei"
MACHINE = Machine(processes=1, precision="no", free=16 * 2**30, cores=4, name="this machine's cpu")
BASE = load_recipe("small")


def make_data(*pictures: tuple[int, int, list[tuple[float, float]]]) -> AnnotatedData:
    """(width, height, sizes of the objects) of each picture."""
    samples = []
    for number, (width, height, sizes) in enumerate(pictures):
        found = [Instance(0, (1.0, 2.0, 1 + w, 2 + h), None, False, index) for index, (w, h) in enumerate(sizes)]
        crowd = Instance(0, (0.0, 0.0, float(width), float(height)), None, True, 99)
        samples.append(Sample(Path(f"{number}.png"), number, width, height, (*found, crowd)))
    return AnnotatedData(tuple(samples), (1,), ("thing",), (), Path("data.json"))


def plan(
    statistics: Statistics,
    *overrides: str,
    machine: Machine = MACHINE,
    megabytes: float = 200,
    measured: bool = True,
    fine_tuned: bool = False,
) -> Plan:
    config = BASE.with_overrides(list(overrides))
    given = given_keys(list(overrides))
    more = int(megabytes * 2**20)
    need = Need(2**28 + more, more, 0, 2**20, 2**24)  # a network of 0.25 GB, and the maps of a picture
    return make_plan(config, given, statistics, machine, lambda _: need, measured, fine_tuned)


def of(sizes: tuple[float, ...] = (40.0,), pictures: int = 500, shorter: int = 512, **changes: object) -> Statistics:
    """Objects of these sizes, in pixels, squares."""
    relative = np.array(sizes) / shorter
    places = np.zeros(len(sizes), dtype=np.int64), np.full((len(sizes), 2), 0.5)
    return Statistics(pictures, len(sizes), 20, float(shorter), 1.25, relative, relative, *places)._replace(**changes)


def test_statistics_by_hand() -> None:
    data = make_data((100, 50, [(4, 9), (10, 10)]), (200, 400, []), (50, 60, [(20, 5)] * 3))
    found = measure_data(data)
    assert found[:4] == (3, 5, 3, 50)
    assert found.aspect == pytest.approx(np.quantile([2, 2, 1.2], 0.95))
    assert found.sizes.tolist() == pytest.approx([6 / 50, 10 / 50, 0.2, 0.2, 0.2])
    assert found.sides.tolist() == pytest.approx([9 / 50, 10 / 50, 0.4, 0.4, 0.4])
    assert found.picture.tolist() == [0, 0, 2, 2, 2]


def test_levels_by_hand() -> None:
    """An object of 128 pixels reaches 64 from its middle: the last that P3 learns."""
    shares = share_of_levels(np.array([10.0, 128.0, 130.0, 300.0, 2000.0]), Config().model)
    assert shares == pytest.approx([0.4, 0.2, 0.2, 0, 0.2])


@pytest.mark.parametrize(
    ("sizes", "shorter", "expected"),
    [
        ((7.0,), 256, 576),  # 16 ÷ 7 · 256 = 585
        ((4.0,), 256, 1024),  # as 1024 is four times the picture
        ((4.0,), 100, 384),  # 400, the nearest multiple of 32
        ((4.0,), 2000, 1024),  # the most
        ((1000.0,), 2000, 512),  # the least
        ((1000.0,), 64, 256),  # no more pixels than 4 × 4 for one
        ((2.0, *[64.0] * 99), 512, 512),  # one in a hundred does not count
    ],
)
def test_input_size(sizes: tuple[float, ...], shorter: int, expected: int) -> None:
    found = plan(of(sizes, shorter=shorter)).config
    assert found.input.shorter == expected
    assert found.augment.shorter == (expected,)
    assert found.input.longer == found.augment.longer >= expected


def test_crops_leave_objects_whole() -> None:
    assert plan(of((40.0,))).config.augment.crop == 384
    assert plan(of((250.0,))).config.augment.crop == 512  # 2 · 250 · 512 ÷ 512
    assert plan(of((500.0,))).config.augment.crop == 0


def test_detections_from_the_fullest_picture() -> None:
    for densest, most, candidates in ((1, 100, 1000), (80, 100, 1000), (81, 200, 1000), (375, 500, 2000)):
        detect = plan(of(densest=densest)).config.detect
        assert (detect.max_detections, detect.candidates_per_level) == (most, candidates)
    assert plan(of(densest=10**6)).config.detect.max_detections == 25_000


@pytest.mark.parametrize(
    ("megabytes", "processes", "expected"),
    [
        (200, 1, (8, 1)),  # 0.7 · 16 − 0.25 GB, over 200 MB: 56
        (2000, 1, (4, 2)),  # 5
        (4000, 1, (2, 4)),  # 2
        (9000, 1, (1, 8)),
        (50_000, 1, (1, 8)),  # none, but one must
        (200, 2, (8, 1)),
        (4000, 2, (4, 2)),
        (200, 8, (8, 1)),
        (200, 16, (16, 1)),
    ],
)
def test_batch_from_memory(megabytes: float, processes: int, expected: tuple[int, int]) -> None:
    train = plan(of(), megabytes=megabytes, machine=MACHINE._replace(processes=processes)).config.train
    assert (train.batch_size, train.accumulate) == expected
    assert train.batch_size % processes == 0
    assert train.sync_norms == ("all" if processes > 1 else "none")


def test_length_and_what_counts_in_it() -> None:
    for pictures, seen in ((1, 2400), (60, 2400), (500, 20_000), (10_000, 200_000), (100_000, 1_200_000)):
        assert plan(of(pictures=pictures)).config.train.iterations == seen // 8
    train = plan(of(pictures=375)).config.train  # 1875
    assert (train.warmup_iterations, train.checkpoint_every, train.validate_every) == (100, 187, 187)
    assert train.ema_decay == pytest.approx(1 - 7.5 / 1875, abs=1e-5)
    assert plan(of(), measured=False).config.train.validate_every == 0
    for iterations in (1, 5, 40):  # too short to count in
        short = plan(of(), f"train.iterations={iterations}").config.train
        assert short.iterations == iterations
        assert short.checkpoint_every >= 1


def test_rate_follows_the_step() -> None:
    assert plan(of()).config.train.lr == 0.001
    assert plan(of(), "train.batch_size=2").config.train.accumulate == 4
    alone = plan(of(), "train.batch_size=2", "train.accumulate=1").config
    assert pictures_in_step(alone) == 2
    assert alone.train.lr == 0.0005  # √(2 ÷ 8)
    assert plan(of(), "train.batch_size=32").config.train.lr == 0.002
    assert plan(of(), "train.batch_size=32", "train.optimizer=sgd").config.train.lr == 0.004
    assert plan(of(), fine_tuned=True).config.train.lr == 0.0005
    assert plan(of(), "train.batch_size=32", "train.lr=0.3").config.train.lr == 0.3


def test_what_is_given_wins() -> None:
    given = [
        "input.shorter=384",
        "augment={crop: 128, turns: true}",
        "detect.max_detections=7",
        "train.iterations=11",
        "train.precision=bf16",
        "train.workers=5",
        "train.validate_every=0",
    ]
    config = plan(of(), *given).config
    assert config.with_overrides(given) == config
    assert config.input.longer == 480  # 1.25 · 384: what follows from it follows
    assert config.augment.shorter == Config().augment.shorter  # of a section given at once, all is given


def test_words() -> None:
    lines = plan(of((8.0, 40.0, 400.0)), fine_tuned=True, megabytes=3000).lines
    assert len(lines) == 9
    assert "500 pictures" in lines[0]
    assert "P3 67%, P5 33%" in lines[2]
    assert "8 pictures as 4 batches of 2; each takes 3000 MB" in lines[4]
    assert lines[5].startswith("memory: about ")
    assert "40 times" in lines[7]
    assert all("\n" not in line for line in lines)


def test_a_dynamic_assigner_has_no_levels_in_the_plan() -> None:
    """Everything else follows from the data as with the recipe small."""
    config, given = load_recipe("small-rtm"), frozenset[str]()
    need = Need(2**28, 2**20, 0, 2**20, 2**24)
    statistics = of((8.0, 40.0, 400.0))
    made, other = (
        make_plan(one, given, statistics, MACHINE, lambda _: need, measured=True, fine_tuned=False)
        for one in (config, BASE)
    )
    assert len(made.lines) == len(other.lines) - 1
    assert not any("level" in line for line in made.lines)
    assert [line for line in other.lines if "level" not in line] == list(made.lines)
    assert made.config.input == other.config.input
    assert made.config.augment == other.config.augment
    assert made.config.train == other.config.train


def test_planned_recipes() -> None:
    assert is_planned(None)
    assert is_planned("small-rtm")
    assert not is_planned("small")


def test_a_model_brings_its_assigner() -> None:
    """Without a recipe, the losses come from the model, and they belong to its assigner."""
    own = load_recipe("rtmdet-ins-s").with_overrides(["targets.dynamic_candidates=7"])
    start = Stored(own, {}, Path("a"))
    config = base_settings(None, start, [])
    assert (config.targets.assigner, config.targets.dynamic_candidates) == ("dynamic", 7)
    assert config.loss == own.loss
    assert config.targets.max_mask_positives == BASE.targets.max_mask_positives
    assert base_settings(None, Stored(BASE, {}, Path("a")), []).targets == BASE.targets


def test_this_machine() -> None:
    machine = look_at_machine(join_processes())
    assert machine.processes == 1
    assert 2**28 < machine.free < 2**45
    assert machine.resident > 2**26
    assert machine.cores >= 1
    assert machine.precision in ("no", "bf16", "fp16")


TRIAL = """
import sys, torch
from pathlib import Path
from condinst.data.formats.coco.read import read_coco
from condinst.engine.planning.trial import _fullest, _Trial, largest_canvas, measure_need
from condinst.memory import peak_memory
from condinst.model.condinst import CondInst
from condinst.recipes import load_recipe
root = Path(sys.argv[1])
data = read_coco(root / "train.json", root / "images")
config = load_recipe("small").with_overrides(["augment.crop=192", "augment.shorter=[384]", "model.classes=[nucleus]"])
cpu = torch.device("cpu")
need = measure_need(config, data, None, cpu, 2**40)
trial = _Trial(config, CondInst(config.model).train(), cpu)
print(need.step + 4 * need.more, trial.step(_fullest(config, data), largest_canvas(config, data), 5))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resets this system's record of the most memory")
def test_five_pictures_take_what_one_and_two_foretell() -> None:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, str(NUCLEI)], env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, taken = map(int, done.stdout.split())
    assert said == pytest.approx(taken, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="resets this system's record of the most memory")
def test_a_trial_sees_the_size_and_measures() -> None:
    data = read_coco(NUCLEI / "train.json", NUCLEI / "images")
    config = BASE.with_overrides(["augment.shorter=[96]", "augment.crop=96", "augment.longer=400"])
    device = torch.device("cpu")
    small = measure_need(config, data, data, device, 2**40)
    large = measure_need(
        config.with_overrides(["augment.shorter=[192]", "augment.crop=192"]), data, None, device, 2**40
    )
    assert small.more > 2**20
    assert 1.5 * small.more < large.more
    assert small.picture == 4 * 3 * 96 * 96
    assert small.measuring > small.weights > 2**20
    assert large.measuring == 0


def test_the_largest_canvas_by_hand() -> None:
    """640 × 480 with a shorter side of 100 and a jitter of 1.5: 200 × 150, padded to multiples of 32."""
    wide = make_data((640, 480, [(5, 5)]))
    both = make_data((640, 480, [(5, 5)]), (480, 640, [(5, 5)]))
    config = Config().with_overrides(["augment.shorter=[80, 100]", "augment.longer=1000", "augment.jitter=[0.5, 1.5]"])
    assert largest_canvas(config, wide) == (160, 224)
    assert largest_canvas(config, both) == (224, 224)
    assert largest_canvas(config.with_overrides(["augment.turns=true"]), wide) == (224, 224)
    assert largest_canvas(config.with_overrides(["augment.longer=80"]), wide) == (96, 128)  # 120 × 90
    assert largest_canvas(config.with_overrides(["augment.crop=128"]), wide) == (128, 128)
    square = config.with_overrides(["augment.longer=80", "augment.crop=160"])
    assert largest_canvas(square, wide) == (96, 128)
    for joined in ("augment.mosaic=0.5", "augment.mixup=0.5", "input.letterbox=true"):
        assert largest_canvas(square.with_overrides([joined]), wide) == (160, 160)


def test_given_keys() -> None:
    assert given_keys(["train.lr=1", " input = {shorter: 3}"]) == {
        "train.lr",
        "input.shorter",
        "input.longer",
        "input.letterbox",
        "input.stretch",
        "input.resampling",
        "input.range",
        "input.tile",
        "input.overlap",
        "input.seen",
    }
    assert given_keys([]) == frozenset()
    assert json.dumps(sorted(given_keys(["model.head.prior=0.1"]))) == '["model.head.prior"]'


def test_the_expected_memory_by_hand() -> None:
    """A step, the other batches of the step, and two reading processes with two batches each."""
    config = BASE.with_overrides(["train.batch_size=8", "train.accumulate=3", "train.workers=2"])
    need = Need(step=1000, more=100, measuring=0, picture=10, weights=5)
    two = MACHINE._replace(processes=2)
    assert expected_memory(config, two, need) == 1000 + 3 * 100 + 2 * 40
    assert expected_memory(config, two._replace(reader=50), need) == 1380 + 2 * (50 + 5 + 2 * 40)
    assert expected_memory(config, two, need._replace(measuring=5000)) == 5000


def test_kept_pictures_take_memory_in_each_reading_process() -> None:
    data = make_data((640, 480, [(5, 5)]), (10, 20, [(5, 5)]), (30, 20, [(5, 5)]))
    config = BASE.with_overrides(["train.batch_size=8", "train.workers=2", "augment.cache=2"])
    assert kept_bytes(config, data) == 3 * (640 * 480 + 30 * 20)
    assert kept_bytes(BASE, data) == 0
    need, machine = Need(step=1000, more=100, measuring=0, picture=10, weights=5), MACHINE._replace(reader=50)
    alone = config.with_overrides(["train.workers=0"])
    for settings, processes in ((config, 2), (alone, 1)):
        without = expected_memory(settings, machine, need)
        assert expected_memory(settings, machine, need._replace(kept=300)) == without + processes * 300
