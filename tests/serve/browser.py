"""The page in headless Chromium, and a server with prepared answers."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from condinst.ops.bitmaps.rle import Region, encode
from condinst.serve.http.page import PAGE, policy

CHROMEDRIVER = "chromedriver"
CHROMIUM = ("chromium", "google-chrome", "chrome")
PATIENCE = 30  # seconds for a prediction on a busy machine
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Tab:
    """The page in a browser. downloads: the folder where its files arrive."""

    driver: Any
    downloads: Path

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.wait(
            "return document.querySelector('#model').options.length > 0 || !document.querySelector('#notice').hidden"
        )
        self.run(
            "const original = window.fetch; window.started = 0;"
            "window.fetch = (...words) => { window.started++; return original(...words); }"
        )

    def run(self, script: str, *values: object) -> Any:
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, *values: object, seconds: float = PATIENCE) -> Any:
        """Run a script until it returns something true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script, *values)):
            assert time.monotonic() < end, (script, self.text("notice"), self.text("status"))
            time.sleep(0.03)
        return value

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()
        self.settle()

    def keys(self, selector: str, *keys: str) -> None:
        self.find(selector).send_keys(*keys)
        self.settle()

    def text(self, name: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def settle(self) -> None:
        """Wait until the next frame is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))"
        )

    def add(self, *paths: Path) -> None:
        """Add pictures and wait until each has an answer."""
        count = self.run("return document.querySelectorAll('.chip').length")
        self.find("#chooser").send_keys("\n".join(map(str, paths)))
        ready = "return [...document.querySelectorAll('.chip')].filter((one) => /^[\\d!]/.test(one.textContent)).length"
        self.wait(f"{ready} === {count + len(paths)}")
        self.wait(
            "return !document.querySelector('#stage').dataset.view === false || document.querySelector('.chip.bad')"
        )
        self.settle()

    def threshold(self, value: float) -> None:
        self.run(
            "const slider = document.querySelector('#threshold'); slider.value = arguments[0];"
            "for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind))",
            value,
        )
        self.settle()

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture lies in the stage."""
        left, top, scale = map(float, self.find("#stage").get_attribute("data-view").split())
        return left + x * scale, top + y * scale

    def pixel(self, canvas: str, x: float, y: float) -> list[int]:
        """RGBA of a canvas at a point of the picture."""
        return list(
            self.run(
                "const [id, x, y] = arguments, canvas = document.getElementById(id);"
                "const place = [x, y].map((side) => Math.floor(side * canvas.width / canvas.clientWidth));"
                "return [...canvas.getContext('2d').getImageData(...place, 1, 1).data]",
                canvas,
                *self.point(x, y),
            )
        )

    def click_at(self, x: float, y: float) -> None:
        """Click on a point of the picture."""
        from selenium.webdriver.common.action_chains import ActionChains

        stage = self.find("#stage")
        left, top = self.point(x, y)
        size = stage.size
        ActionChains(self.driver, duration=0).move_to_element_with_offset(
            stage, round(left - size["width"] / 2), round(top - size["height"] / 2)
        ).click().perform()
        self.settle()

    def requests(self) -> int:
        """The number of requests that the page has started since it was opened."""
        return int(self.run("return window.started"))

    def download(self, format: str, name: str, everything: bool = False) -> bytes:
        """Download a file through the menu and return its content."""
        target = self.downloads / name
        target.unlink(missing_ok=True)
        self.click("#save")
        self.click(f'#files label:has([value="{"all" if everything else "one"}"])')
        self.click(f'[data-format="{format}"]')
        end = time.monotonic() + PATIENCE
        while not target.exists():  # the browser renames the file when it is whole
            assert time.monotonic() < end, (name, self.text("status"), self.text("notice"))
            time.sleep(0.02)
        return target.read_bytes()


@contextmanager
def browser(downloads: Path) -> Iterator[Tab]:
    """Headless Chromium. Skips the test where Chromium, chromedriver or selenium is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    manager = shutil.which(CHROMEDRIVER)
    if program is None or manager is None:
        pytest.skip(f"{'chromedriver' if program else 'Chromium'} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1400,900"):
        options.add_argument(f"--{word}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(manager))
    yield Tab(driver, downloads)
    driver.quit()


@dataclass
class Stub:
    """A server with prepared answers. predict: (parameters, headers, body) → answer. asked: the parameters so far."""

    predict: Callable[[dict[str, str], dict[str, str], bytes], Answer]
    models: list[dict[str, Any]]
    token: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""
    closed: bool = False


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_GET(self) -> None:
        if self.path == "/":
            text = PAGE.read_text(encoding="utf-8")
            self.send(200, {"Content-Type": "text/html", "Content-Security-Policy": policy(text)}, text.encode())
        elif self.may_pass():
            self.send(200, {}, json.dumps({"models": self.stub.models}).encode())

    def do_POST(self) -> None:
        if self.stub.closed:  # the browser opened this connection before the server ended
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.may_pass():
            self.stub.asked.append(parameters)
            self.send(*self.stub.predict(parameters, dict(self.headers), body))

    def may_pass(self) -> bool:
        passes = not self.stub.token or self.headers.get("Authorization") == f"Bearer {self.stub.token}"
        if not passes:
            self.send(401, {}, b'{"error": "the server needs a token"}')
        return passes

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Quiet."""


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stub": stub}))
    stub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield stub
    stub.closed = True
    server.shutdown()
    server.server_close()


def model(*classes: str, conf: float | None = 0.5) -> dict[str, Any]:
    return {"name": "a", "classes": list(classes), "default": True, "conf": conf, "mode": "exact", "device": "cpu"}


def ellipse(x: float, y: float, across: float, down: float) -> Region:
    """The pixels of an ellipse with these radii."""
    left, top = int(x - across), int(y - down)
    columns, rows = np.arange(left, int(x + across) + 2), np.arange(top, int(y + down) + 2)
    inside = ((columns[None] + 0.5 - x) / across) ** 2 + ((rows[:, None] + 0.5 - y) / down) ** 2 <= 1
    return Region(inside, left, top)


def document(
    size: tuple[int, int], classes: Sequence[str], found: Sequence[tuple[int, float, Region]]
) -> dict[str, Any]:
    """A COCO document. size: (width, height). found: (label, score, mask)."""
    annotations = []
    for number, (label, score, region) in enumerate(found, 1):
        rows, columns = region.bitmap.shape
        annotations.append({
            "id": number, "image_id": 1, "category_id": label + 1, "score": score, "iscrowd": 0,
            "bbox": [region.x, region.y, columns, rows], "area": int(region.bitmap.sum()),
            "segmentation": dict(encode(region, size[1], size[0])),
        })  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": "image", "width": size[0], "height": size[1]}],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(classes)],
        "annotations": annotations,
    }


def always(content: dict[str, Any]) -> Callable[..., Answer]:
    body = json.dumps(content).encode()
    return lambda *_: (200, {}, body)
