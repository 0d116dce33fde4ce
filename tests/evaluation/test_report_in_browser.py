"""The report and the doctor's page in a real browser: nothing is cut off on a wide screen or a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.doctor.examination import examine
from condinst.doctor.page import make_page
from condinst.evaluation.cases import truth_of
from condinst.evaluation.report import measure, write_report
from condinst.inference.result import Result

DATA = Path(__file__).parent.parent / "data"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# what the page measures of itself, as text that --dump-dom prints
SCRIPT = """<script>
const wide = [...document.querySelectorAll("h1, p, .cards, .columns, figure, td")].filter(one => !one.closest(".wide")
  && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
const broken = [...document.images].filter(one => !one.complete || !one.naturalWidth);
const last = Math.max(...[...document.querySelectorAll(".columns figure")].map(one => one.getBoundingClientRect().top));
const cut = [...document.querySelectorAll("td .warning, td .error")].filter(one => one.getClientRects().length > 1);
const letters = [...document.querySelectorAll("svg text")].map(one => one.getBoundingClientRect().height);
const tiny = letters.filter(height => height < 8).length;
const faults = [wide.length + cut.length, broken.length + tiny, Math.round(last)];
document.body.dataset.found = `wide ${faults[0]} broken ${faults[1]} last ${faults[2]}`;
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package: chromium)"),
]


def browse(page: Path, width: int, height: int) -> tuple[dict[str, int], Image.Image]:
    """What the page says of itself at that window size, and its first screen."""
    assert CHROMIUM is not None
    page.with_suffix(".tried.html").write_text(page.read_text(encoding="utf-8").replace("</body>", SCRIPT + "</body>"))
    shot = page.with_suffix(f".{width}.png")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    plain = [CHROMIUM, *flags, f"--window-size={width},{height}"]
    for target, option in ((page, f"--screenshot={shot}"), (page.with_suffix(".tried.html"), "--dump-dom")):
        command = [*plain, option, target.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="wide (\d+) broken (\d+) last (-?\d+|-Infinity)"', done.stdout)
    assert found is not None
    wide, broken, last = found.groups()
    return {"wide": int(wide), "broken": int(broken), "last": -1 if "I" in last else int(last)}, Image.open(shot)


class Half:
    """Finds every second object of a data set."""

    def __init__(self, data: AnnotatedData) -> None:
        self.config = Config.from_dict({"model": {"classes": data.classes}})
        self.names = dict(enumerate(data.classes))
        self.samples = {sample.path: sample for sample in data.samples}
        self.classes = data.classes

    def __call__(self, source: Path) -> Result:
        return truth_of(self.samples[source], self.classes)[::2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = read_coco(DATA / "facade" / "val.json", DATA / "facade" / "images")
    predictor = Half(data)
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "facade on val.json", predictor.config, measure(data, predictor), facts={"Data": "facade"})
    return path


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = read_coco(DATA / "facade" / "val.json", DATA / "facade" / "images")
    config = Config()
    path = tmp_path_factory.mktemp("check") / "check.html"
    path.write_text(make_page(examine({"val": data}, {}, config), config, DATA / "facade"), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_nothing_is_cut_off(report: Path, check: Path, width: int, height: int) -> None:
    for page in (report, check):
        found, shot = browse(page, width, height)
        assert (found["wide"], found["broken"]) == (0, 0), page
        pixels = np.asarray(shot.convert("L"))
        assert pixels.std() > 10  # something is drawn


def test_the_first_screen_shows_numbers_and_pictures(report: Path) -> None:
    assert 0 < browse(report, 1400, 900)[0]["last"] < 900
