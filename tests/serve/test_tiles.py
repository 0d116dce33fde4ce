"""Pictures in tiles on a real server: the results of a Predictor, within limits."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import httpx
import pytest
from PIL import Image

from condinst.predictor import Predictor
from tests.serve.running import NUCLEI, Running
from tests.serve.test_kserve import infer
from tests.serve.test_refusals import huge_png, line_of

CONTENT = NUCLEI.read_bytes()  # 256 × 256 pixels


def post(client: httpx.Client, query: str, content: bytes = CONTENT) -> httpx.Response:
    return client.post(f"/v1/predict?{query}", content=content)


def strip(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_request_chooses_the_tiles(client: httpx.Client) -> None:
    answer = post(client, "tile=160&overlap=0.3")
    wanted = Predictor("nuclei", tile=160, overlap=0.3)(CONTENT)
    document = answer.json()
    assert [each["segmentation"] for each in document["annotations"]] == list(wanted.masks.rle)
    assert document["info"]["notes"] == ["condinst cuts it into 4 tiles of 160×160 pixels"]
    assert json.loads(answer.headers["x-condinst-notes"]) == document["info"]["notes"]
    assert document["annotations"] != post(client, "").json()["annotations"]
    for query in ("tile=off", "tile=auto&overlap=100", "tile=256", "overlap=0"):
        whole = post(client, query)
        assert "x-condinst-notes" not in whole.headers
        assert whole.json() == post(client, "").json()
    outputs = infer(client, parameters={"tile": 160, "overlap": 0.3}).json()["outputs"]
    assert outputs[1]["data"] == wanted.conf.tolist()
    assert "400" not in infer(client, parameters={"tile": "160"}).text[:100]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("tile=0", 422, "tile: expected a side from 32 to 65536 pixels, 'auto' or 'off', got '0'"),
        ("tile=-1", 422, "got '-1'"),
        ("tile=31", 422, "got '31'"),
        ("tile=65537", 422, "got '65537'"),
        ("tile=" + "9" * 5000, 422, "tile: expected a side"),
        ("tile=%D9%A2%D9%A5%D9%A6", 422, "tile: expected a side"),  # 256 in Arabic digits
        ("tile=128.0", 422, "tile: expected a side"),
        ("tile=", 422, "got ''"),
        ("tile=big", 422, "got 'big'"),
        ("tile=true", 422, "got 'true'"),
        ("tile=128&tile=64", 422, "query parameter 'tile' is given 2 times"),
        ("tiles=128", 422, "unknown query parameter 'tiles'"),
        ("tile=2000", 422, "tile: at most 1024 pixels for the model 'nuclei'"),
        ("tile=64&overlap=40", 422, "overlap: expected a part of the tile from 0 to 0.5, or at most half of its 64"),
        ("tile=64&overlap=0.9", 422, "overlap: expected a part of the tile"),
        ("overlap=-0.1", 422, "overlap: the value should be greater than or equal to 0"),
        ("overlap=nan", 422, "overlap"),
        ("overlap=inf", 422, "overlap"),
        ("overlap=1e9", 422, "overlap: the value should be less than or equal to 32768"),
        ("overlap=half", 422, "overlap"),
    ],
)
def test_wrong_tiles_are_one_line(client: httpx.Client, query: str, status: int, words: str) -> None:
    answer = post(client, query)
    assert (answer.status_code, words in line_of(answer)) == (status, True), answer.text


def test_wrong_tiles_of_kserve(client: httpx.Client) -> None:
    wrong: list[dict[str, object]] = [
        {"tile": 0}, {"tile": True}, {"tile": [128]}, {"tile": 128.5}, {"tile": 10**400}, {"tile": "64", "overlap": 40},
        {"overlap": "much"}, {"overlap": -1}, {"overlap": True}, {"overlap": [0.1]}, {"overlap": 1e300},
    ]  # fmt: skip
    for parameters in wrong:
        answer = infer(client, parameters=parameters)
        assert (answer.status_code, parameters) == (422, parameters)
        assert line_of(answer).startswith(next(iter({*parameters} - {"tile"}), "tile"))


def test_work_is_bounded(client: httpx.Client) -> None:
    """The number of tiles is computed from the header, without decoding the picture."""
    begun = time.monotonic()
    answer = post(client, "tile=32&overlap=16", huge_png(1_900_000, 1))
    assert answer.status_code == 413
    told = line_of(answer)
    assert told.startswith("1900000×1 pixels need 118,749 tiles of 32×32 pixels, over the limit of 1,000 tiles; choose")
    assert post(client, "tile=32&overlap=16", huge_png(2_000_000_000, 1)).status_code == 413  # over --max-pixels
    assert post(client, "tile=64", strip(1400, 1400)).status_code == 413  # 676 tiles take too long on a CPU
    assert time.monotonic() - begun < 5
    assert post(client, "").status_code == 200


def test_options_of_the_server(serve: Callable[..., Running]) -> None:
    server = serve("--tile", "160", "--overlap", "0.3", "--max-tiles", "4")
    assert server.port, server.lines
    with server.client() as client:
        model = client.get("/v1/models").json()["models"][0]
        assert (model["tile"], model["overlap"]) == (160, 0.3)
        document = post(client, "").json()
        assert document["info"]["notes"] == ["condinst cuts it into 4 tiles of 160×160 pixels"]
        wanted = Predictor("nuclei", tile=160, overlap=0.3)(CONTENT)
        assert [each["segmentation"] for each in document["annotations"]] == list(wanted.masks.rle)
        assert "notes" not in post(client, "tile=off").json()["info"]
        assert "overlap" in line_of(post(client, "overlap=100"))
        assert "over the limit of 4 tiles" in line_of(post(client, "tile=64"))
    assert server.stop() == 0


@pytest.mark.parametrize("words", [("--tile", "7"), ("--overlap", "-1")])
def test_wrong_options_are_one_line(serve: Callable[..., Running], words: tuple[str, str]) -> None:
    server = serve(*words)
    assert server.process.wait(30) == 2
    assert server.lines[-1].startswith(f"error: {words[0][2:]}: expected")
    assert "Traceback" not in "".join(server.lines)
