"""The page with prepared answers, in headless Chromium: classes, keys, errors, names, speed and small screens."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.data.formats.labelme.write import labelme_shapes
from condinst.data.sample import Instance, RunLengths
from condinst.ops.bitmaps.rle import Region
from condinst.ops.drawing.palette import class_colours, spread_colours
from tests.serve.browser import Answer, Stub, Tab, always, document, ellipse, model, serving
from tests.serve.test_page import same_document

DOWN, RIGHT, TAB, ESCAPE, DELETE, PAGE_DOWN = "\ue015", "\ue014", "\ue004", "\ue00c", "\ue017", "\ue00f"
WIDTH, HEIGHT = 300, 200
CLASSES = ("cell", "dirt", "bubble")
# The second circle lies on the third one, and hides its middle.
FOUND = [
    (0, 0.9, ellipse(60, 60, 30, 20)),
    (1, 0.8, ellipse(200, 100, 20, 20)),
    (2, 0.6, ellipse(200, 100, 45, 45)),
    (0, 0.3, ellipse(60, 150, 25, 15)),
]
MIDDLE, RIM = (200, 100), (235, 100)
NAMES = "return [...document.querySelectorAll('.object')].map((row) => row.children[1].textContent)"
FIND_SELECTED = "return document.querySelector('.object[aria-selected=true]')?.children[1].textContent ?? ''"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw(tmp_path / "picture.png", (WIDTH, HEIGHT))


def draw(path: Path, size: tuple[int, int]) -> Path:
    Image.new("RGB", size, (90, 120, 90)).save(path)
    return path


@pytest.fixture
def open_stub(tab: Tab) -> Iterator[Any]:
    """Open the page of a server with prepared answers."""
    with ExitStack() as servers:

        def begin(content: dict[str, Any], *classes: str, **options: Any) -> Stub:
            stub = servers.enter_context(serving(Stub(always(content), [model(*classes)], **options)))
            tab.open(stub.address)
            return stub

        yield begin


@pytest.fixture
def page(tab: Tab, open_stub: Any, picture: Path) -> Tab:
    """The page with one picture of four objects."""
    open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    tab.add(picture)
    return tab


def red_green_blue(tab: Tab, selector: str) -> tuple[int, ...]:
    text = tab.run("return getComputedStyle(document.querySelector(arguments[0])).backgroundColor", selector)
    return tuple(int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(","))


def test_class_filter_uncovers_what_lay_below(page: Tab) -> None:
    assert page.run(NAMES) == ["cell", "dirt", "bubble"]
    covered, rim = page.pixel("masks", *MIDDLE), page.pixel("masks", *RIM)
    colours = class_colours(3)
    assert np.abs(np.subtract(covered[:3], colours[1])).max() <= 3  # alpha below 1 rounds colours
    assert np.abs(np.subtract(rim[:3], colours[2])).max() <= 3
    asked = page.requests()
    page.click("#classes li:nth-child(2) input")
    assert page.pixel("masks", *MIDDLE) == rim
    assert page.text("count") == "2 of 4"
    coco = json.loads(page.download("coco", "picture.coco.json"))
    assert [one["category_id"] for one in coco["annotations"]] == [1, 3]
    page.click("#all-classes")
    assert page.pixel("masks", *MIDDLE) == covered
    assert page.requests() == asked


def test_counts_and_slider(page: Tab) -> None:
    counts = "return [...document.querySelectorAll('#classes .number')].map((one) => one.textContent)"
    assert page.run(counts) == ["1", "1", "1"]
    page.threshold(0.2)
    assert page.run(counts) == ["2", "1", "1"]
    page.keys("#threshold", RIGHT)
    assert page.text("threshold-value") == "0.21"
    page.threshold(0.95)
    assert page.text("status") == "No object at this threshold."


def test_opacity_and_colours_by_object(page: Tab) -> None:
    before = page.pixel("masks", *MIDDLE)
    page.run("const s = document.querySelector('#opacity'); s.value = 90; s.dispatchEvent(new Event('input'))")
    page.settle()
    assert page.pixel("masks", *MIDDLE)[3] > before[3] + 80
    page.click("label:has([value=instance])")
    boxes = np.array([[r.x, r.y, r.x + r.bitmap.shape[1], r.y + r.bitmap.shape[0]] for _, _, r in FOUND], np.float32)
    assert red_green_blue(page, "#object-2 .swatch") == spread_colours(boxes)[1]
    assert np.abs(np.subtract(page.pixel("masks", *MIDDLE)[:3], spread_colours(boxes)[1])).max() <= 3


def test_colours_of_many_classes(tab: Tab, open_stub: Any, picture: Path) -> None:
    names = [f"class {number}" for number in range(80)]
    found = [(label, 0.9, ellipse(20 + label % 40, 20, 5, 5)) for label in range(80)]
    open_stub(document((WIDTH, HEIGHT), names, found), *names)
    tab.add(picture)
    shown = [red_green_blue(tab, f"#classes li:nth-child({row}) .swatch") for row in range(1, 81)]
    assert shown == list(class_colours(80))


def test_keys(page: Tab) -> None:
    page.keys("#objects", DOWN, DOWN)
    assert page.run(FIND_SELECTED) == "dirt"
    assert page.run("return document.querySelector('#objects').getAttribute('aria-activedescendant')") == "object-2"
    assert page.text("status") == "dirt, score 0.80, 1,264 px"
    page.keys("#stage", TAB)
    assert page.run(FIND_SELECTED) == "bubble"
    page.keys("#stage", ESCAPE)
    assert page.run(FIND_SELECTED) == ""
    left, _, scale = map(float, page.find("#stage").get_attribute("data-view").split())
    page.keys("#stage", "+", RIGHT)
    now = [float(word) for word in page.find("#stage").get_attribute("data-view").split()]
    assert now[2] == pytest.approx(1.25 * scale)
    page.keys("#stage", "0")
    assert float(page.find("#stage").get_attribute("data-view").split()[0]) == left
    page.keys("#stage", "c")
    assert page.find("#divider").is_displayed()
    assert page.run("return document.querySelector('#masks').style.clipPath") == "inset(0px 0px 0px 50%)"
    page.keys("#divider", RIGHT)
    assert page.find("#divider").get_attribute("aria-valuenow") == "52"


def test_leave_out_and_restore(page: Tab) -> None:
    page.click_at(*MIDDLE)
    assert page.run(FIND_SELECTED) == "dirt"
    page.keys("#stage", DELETE)
    assert page.text("count") == "2 of 4"
    assert page.pixel("masks", *RIM)[3] > 0
    table = page.download("csv", "picture.csv").decode()
    assert "dirt" not in table
    assert "bubble" in table
    page.click("#restore")
    assert page.text("count") == "3 of 4"


def test_picture_and_list_point_at_the_same_object(page: Tab) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    before = page.pixel("masks", *MIDDLE)
    ActionChains(page.driver, duration=0).move_to_element(page.find("#object-2")).perform()
    page.settle()
    assert page.pixel("masks", *MIDDLE)[3] > before[3]
    assert page.text("tip") == "dirt 0.80"


def test_outlines_equal_those_of_condinst(tab: Tab, open_stub: Any, picture: Path) -> None:
    """Noise has holes, parts that touch at corners, and runs that go on at the top of the next column."""
    chance = np.random.default_rng(0)
    noise = [chance.random((12 + number, 9 + 2 * number)) < 0.6 for number in range(5)]
    parts = np.zeros((HEIGHT, 20), dtype=bool)
    parts[:, 3:9] = parts[40:60, 12:15] = True
    ring, bend = np.ones((9, 9), dtype=bool), np.zeros((HEIGHT, 2), dtype=bool)
    ring[3:6, 3:7] = False
    bend[100:, 0] = bend[:50, 1] = True
    bitmaps = [*noise, parts, ring, bend, np.eye(6, dtype=bool), np.ones((HEIGHT, WIDTH), dtype=bool)]
    regions = [Region(bitmap, 0 if bitmap.shape[0] == HEIGHT else 7 * at, 0) for at, bitmap in enumerate(bitmaps)]
    found = [(at % 3, 0.9 - 0.01 * at, region) for at, region in enumerate(regions)]
    open_stub(document((WIDTH, HEIGHT), CLASSES, found), *CLASSES)
    tab.add(picture)
    shapes = [
        {**shape, "score": round(score, 4)}
        for group, (label, score, region) in enumerate(found, 1)
        for shape in labelme_shapes(
            Instance(label, (0, 0, 1, 1), RunLengths.of(*region), False, group), CLASSES[label], group
        )
    ]
    wanted = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "picture.png", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip
    assert {shape["shape_type"] for shape in shapes} == {"polygon", "mask"}
    same_document(json.loads(tab.download("labelme", "picture.json")), wanted)


def test_enlarged_masks_keep_their_pixels(tab: Tab, open_stub: Any, tmp_path: Path) -> None:
    """The middle of each pixel has the colour of its object, with smooth outlines and with visible pixels."""
    width, height = 60, 40
    bitmap = np.random.default_rng(1).random((height, width)) < 0.5
    open_stub(document((width, height), ["cell"], [(0, 0.9, Region(bitmap, 0, 0))]), "cell")
    tab.add(draw(tmp_path / "small.png", (width, height)))
    for scale in (8, 10):
        left, top, now = map(float, tab.find("#stage").get_attribute("data-view").split())
        assert now == pytest.approx(scale)
        rows = (top + (np.arange(height) + 0.5) * now).astype(int).tolist()
        columns = (left + (np.arange(width) + 0.5) * now).astype(int).tolist()
        alpha = tab.run(
            "const canvas = document.querySelector('#masks'), [rows, columns] = arguments;"
            "const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "return rows.map((row) => columns.map((column) => data[4 * (row * canvas.width + column) + 3]))",
            rows,
            columns,
        )
        assert ((np.array(alpha) > 0) == bitmap).all()
        tab.keys("#stage", "+")


def test_many_masks_stay_fluid(tab: Tab, open_stub: Any, tmp_path: Path) -> None:
    width, height, count, chance = 1250, 800, 500, np.random.default_rng(0)
    centres = zip(chance.uniform(30, width - 31, count), chance.uniform(30, height - 31, count), strict=True)
    found = [(at % 3, 0.99 - at / 600, ellipse(x, y, *chance.uniform(10, 28, 2))) for at, (x, y) in enumerate(centres)]
    open_stub(document((width, height), CLASSES, found), *CLASSES)
    tab.add(draw(tmp_path / "large.png", (width, height)))
    spent = []
    for value in np.linspace(0.15, 0.6, 12):
        tab.threshold(float(value))
        spent.append(tab.run("return performance.getEntriesByName('condinst-masks')[0].duration"))
    assert tab.text("count") == f"{sum(score >= 0.6 for _, score, _ in found)} of 500"
    assert np.median(spent) < 50, spent  # milliseconds from the slider to the drawn masks
    tab.threshold(0.05)
    labels = np.asarray(Image.open(io.BytesIO(tab.download("labels", "large-labels.png"))))
    wanted = np.zeros((height, width), np.uint16)
    for number, (_, _, region) in reversed(list(enumerate(found, 1))):
        rows, columns = region.bitmap.shape
        wanted[region.y : region.y + rows, region.x : region.x + columns][region.bitmap] = number
    assert (labels == wanted).all()
    assert tab.run("return document.querySelectorAll('.object').length") < 60  # the list makes only visible rows
    tab.keys("#objects", "\ue010")  # End
    assert (
        tab.run("return document.querySelector('.object[aria-selected=true]').getAttribute('aria-posinset')") == "500"
    )


def test_token(tab: Tab, open_stub: Any, picture: Path) -> None:
    stub = open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    stub.token = "secret"
    tab.find("#chooser").send_keys(str(picture))
    tab.wait("return document.querySelector('#gate').open")
    tab.keys("#token", "wrong")
    tab.click("#gate [value=ok]")
    tab.wait("return document.querySelector('#gate-note').textContent.includes('refused')")
    tab.keys("#token", "secret")
    tab.click("#gate [value=ok]")
    tab.wait("return document.querySelector('#count').textContent === '3 of 4'")
    assert tab.run("return localStorage.length") == 0
    assert len(stub.asked) == 1


def test_busy_server(tab: Tab, open_stub: Any, picture: Path) -> None:
    stub = open_stub({}, *CLASSES)
    answers = iter([
        (503, {"Retry-After": "1"}, b'{"error": "the queue is full"}'),
        always(document((WIDTH, HEIGHT), CLASSES, FOUND))(),
    ])  # fmt: skip
    stub.predict = lambda *_: next(answers)
    tab.find("#chooser").send_keys(str(picture))
    tab.wait("return document.querySelector('#status').textContent === 'The server is busy. Next try in 1 s.'")
    tab.wait("return document.querySelector('#count').textContent === '3 of 4'")


def test_errors_are_one_line_and_can_be_tried_again(tab: Tab, open_stub: Any, picture: Path) -> None:
    stub = open_stub({}, *CLASSES)
    good = always(document((WIDTH, HEIGHT), CLASSES, FOUND))
    stub.predict = lambda *_: (413, {}, b'{"error": "the body is over the limit", "hint": "send a smaller picture"}')
    tab.add(picture)
    assert tab.text("notice-text") == "the body is over the limit; send a smaller picture"
    stub.predict = lambda *_: (200, {}, b"<html>")
    tab.click("#again")
    tab.wait("return document.querySelector('#notice-text').textContent.startsWith('The answer of the server cannot')")
    stub.predict = good
    tab.click("#again")
    tab.wait("return document.querySelector('#count').textContent === '3 of 4'")
    assert not tab.find("#notice").is_displayed()


def test_server_that_is_gone(tab: Tab, picture: Path) -> None:
    content = document((WIDTH, HEIGHT), CLASSES, FOUND)
    with serving(Stub(always(content), [model(*CLASSES)])) as stub:
        tab.open(stub.address)
    tab.find("#chooser").send_keys(str(picture))
    tab.wait("return document.querySelector('#notice-text').textContent.startsWith('The server does not answer')")
    assert tab.find("#again").is_displayed()
    tab.driver.get_log("browser")  # the refused connection


def test_names_from_outside_are_text(tab: Tab, open_stub: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    open_stub(document((WIDTH, HEIGHT), [evil], [(0, 0.9, FOUND[0][2])]), evil)
    picture = draw(tmp_path / "<script>alert(2)<&script>.png", (WIDTH, HEIGHT))
    tab.add(picture)
    tab.click_at(60, 60)
    for name in ("one-name", "name", "tip", "finds"):
        assert ("<script>" if name == "name" else "<img") in tab.text(name)
    assert tab.run("return document.querySelectorAll('img').length + document.scripts.length") == 1
    assert tab.run(NAMES) == [evil]
    assert evil in tab.download("csv", "_script_alert(2)_&script_.csv").decode()  # the browser replaces < and >


def test_sizes_that_differ(tab: Tab, open_stub: Any, tmp_path: Path) -> None:
    """If browser and server read another size, the page shows the picture of the server and says so."""
    stub = open_stub({}, *CLASSES)
    png = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 30)).save(png, "PNG")
    coco = always(document((WIDTH, HEIGHT), CLASSES, FOUND))

    def predict(parameters: dict[str, str], *rest: object) -> Answer:
        return (200, {"Content-Type": "image/png"}, png.getvalue()) if parameters["format"] == "png" else coco()

    stub.predict = predict
    tab.add(draw(tmp_path / "other.png", (HEIGHT, WIDTH)))
    tab.wait("return document.querySelector('#notice-text').textContent.includes('copy')")
    tab.settle()
    assert tab.pixel("picture", 10, 10) == [200, 30, 30, 255]
    assert [parameters.get("conf") for parameters in stub.asked] == ["0.05", "1"]


def test_phone(tab: Tab, open_stub: Any, picture: Path) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    tab.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    stub = open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    stub.models.append({**model("cell"), "name": "a model with a rather long name, as folders have", "default": False})
    tab.open(stub.address)
    overflow = "return document.documentElement.scrollWidth - 390"
    assert tab.run(overflow) == 0
    tab.add(picture)
    tab.click_at(*MIDDLE)
    assert tab.text("one-name") == "dirt"
    assert tab.run(overflow) == 0
    assert tab.pixel("masks", *MIDDLE)[3] > 0
    outside = "return [...document.querySelectorAll('button')].filter((one) => one.getBoundingClientRect().right > 390)"
    assert tab.run(outside) == []
    tab.click("#save")
    assert tab.run(overflow) == 0


def test_dark_colours(tab: Tab, open_stub: Any, picture: Path) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    assert max(red_green_blue(tab, "header")) < 60
    tab.click("#theme")
    assert min(red_green_blue(tab, "header")) > 200
    tab.run("location.reload()")
    tab.wait("return document.querySelector('#model').options.length > 0")
    assert min(red_green_blue(tab, "header")) > 200  # the choice is kept


def test_several_pictures(tab: Tab, open_stub: Any, tmp_path: Path) -> None:
    open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    tab.add(*(draw(tmp_path / f"{name}.png", (WIDTH, HEIGHT)) for name in "abc"))
    assert tab.text("name") == "a.png"
    tab.keys("#stage", PAGE_DOWN)
    assert tab.text("name") == "b.png"
    tab.threshold(0.7)
    assert tab.run("return [...document.querySelectorAll('.chip')].map((one) => one.textContent)") == ["2", "2", "2"]
    tab.keys("li:nth-child(2) .remove", "\ue007")  # Enter
    assert tab.text("name") == "c.png"
    assert tab.run("return document.activeElement.title") == "c.png"
    tab.click("#clear")
    assert tab.find("#empty").is_displayed()
    assert not tab.find("#strip").is_displayed()


def test_dropped_and_pasted_files(tab: Tab, open_stub: Any, picture: Path) -> None:
    open_stub(document((WIDTH, HEIGHT), CLASSES, FOUND), *CLASSES)
    tab.driver.execute_async_script(
        "const done = arguments[0], canvas = document.createElement('canvas'), transfer = new DataTransfer();"
        "[canvas.width, canvas.height] = [300, 200];"
        "canvas.toBlob((blob) => {"
        "  transfer.items.add(new File([blob], 'image.png', {type: 'image/png'}));"
        "  dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, cancelable: true}));"
        "  dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}));"
        "  done(); })"
    )
    tab.wait("return [...document.querySelectorAll('.chip')].filter((one) => one.textContent === '3').length === 2")
    titles = tab.run("return [...document.querySelectorAll('.thumb')].map((one) => one.title)")
    assert sorted(titles) == ["image.png", "pasted-1.png"] or sorted(titles) == ["image.png", "pasted-2.png"]
