"""The comparison of the family: its settings, its clock, one small training, and its page."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from benchmarks.facts import read_facts
from benchmarks.relatives import contest, page, train
from benchmarks.relatives.contest import ABLATIONS, DATA, FAMILY, FIRST, configure, find_entry
from benchmarks.relatives.record import Comparison, Cost, Point, Run
from condinst.errors import UsageError
from condinst.methods.choose import build_network

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
ENTRIES = sorted({*FAMILY, *itertools.chain(*ABLATIONS.values())})


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_differs_from_condinst_only_where_it_says(entry: str) -> None:
    """Data, augmentation, optimizer and length are the same for all."""
    first, own = (configure(name, "nuclei", 400, 3, Path("code.npz")) for name in (FIRST, entry))
    assert own.augment == first.augment
    assert own.input == first.input
    assert own.train.model_copy(update={"mask_code": ""}) == first.train.model_copy(update={"mask_code": ""})
    assert own.model.backbone == first.model.backbone
    assert own.detect.max_detections == DATA["nuclei"].limit
    if entry not in (FIRST, contest.RIVAL) and not find_entry(entry).like:
        assert own.model != first.model
    build_network(own.with_overrides(["model.classes=[nucleus]"]).model)


def test_the_clock_keeps_each_point_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(train.time, "process_time", lambda: now[0])
    clock = train.Clock(pictures=8, seconds=5.0, started=0.0)
    found = []
    for seen in range(0, 14, 2):
        found.append(clock.due(seen))
        now[0] += 1.0
    assert found == [[], ["pictures-0.25"], ["pictures-0.5"], [], ["pictures-1"], ["time"], []]
    assert clock.kept["time"] == (10, 5.0)
    assert clock.over


def test_a_small_training_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CondInst, and its weights again with another suppression of duplicates."""
    settings = [one for one in contest.COMMON if not one.startswith(("train.init", "train.precision"))]
    monkeypatch.setattr(contest, "COMMON", (*settings, "train.init=none", "model.fpn_channels=32"))
    data = tmp_path / "nuclei"
    shutil.copytree(NUCLEI, data)
    train.main(FIRST, data, tmp_path / FIRST, pictures=4)
    train.main("nms-matrix", data, tmp_path / "nms-matrix", pictures=4)
    first, other = (read_facts(tmp_path / name / "run.json", Run) for name in (FIRST, "nms-matrix"))
    assert [point.pictures for point in first.points] == [2, 4]
    assert first.pictures.seconds > 0
    assert 0 < first.mask_parameters < first.parameters
    assert other.pictures.pictures == 4
    assert other.parameters == first.parameters


def make(data: str, seed: int, mask: float) -> Comparison:
    point = Point(pictures=400, seconds=90, mask=mask, mask50=0.7, mask75=0.5, boundary=0.3, box=0.4)
    longer = point.model_copy(update={"pictures": 500, "mask": mask + 0.1})
    run = Run(parameters=10, mask_parameters=4, megabytes=900, pictures=point, time=longer, points=(point, longer))
    group = ABLATIONS["coordinates"]
    return Comparison(
        data=data,
        seed=seed,
        command="python -m benchmarks.family",
        machine="some CPU",
        pictures=400,
        seconds=90,
        limit=100,
        runs=dict.fromkeys([FIRST, contest.RIVAL, *group], run),
        costs={FIRST: Cost(milliseconds=12.4, megabytes=3.2)},
    )


def test_the_tables_show_means_over_the_seeds() -> None:
    found = page.sections([make("nuclei", 0, 0.2), make("nuclei", 1, 0.4)])
    assert "| CondInst | 0.300 / 0.400 |" in found["overview"]
    assert "| CondInst | 0.300 | 0.500 | 0.300 | 0.400 | 0.400 | 0.300 | 500 | 4 | 12 | 3 | 900 |" in found["nuclei"]
    assert "| Mask R-CNN | 0.300 | 0.500 | 0.300 | 0.400 | 0.400 | 0.300 | 500 | 4 | – | – | 900 |" in found["nuclei"]
    assert found["facade"] == page.NOTHING
    assert "| relative, no mask features | 31.3 | 0.300 | 0.500 | 0.300 | 4 |" in found["ablations"]
    assert found["commands"].count("python -m benchmarks.family") == 1
    assert page.charts([make("nuclei", 0, 0.2)])["nuclei"].startswith("<svg")


def test_the_page_has_all_markers() -> None:
    text = Path("docs/explanation/family.md").read_text(encoding="utf-8")
    for name in page.sections([]):
        assert text.count(f"<!-- {name}: written by {page.WRITER} -->") == 1
        assert text.count(f"<!-- end of {name} -->") == 1


def test_an_unknown_data_set_is_one_line(tmp_path: Path) -> None:
    from benchmarks.family import main

    with pytest.raises(UsageError, match="--data cells: expected some of nuclei, facade, granular, strawberry"):
        main(data="cells", ablate="", datasets=tmp_path, results=tmp_path)
