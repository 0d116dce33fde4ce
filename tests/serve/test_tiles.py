"""Pictures in tiles on a real server: the results of a Predictor, within limits."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from condinst.predictor import Predictor
from tests.serve.running import NUCLEI, Running
from tests.serve.test_kserve import infer
from tests.serve.test_refusals import huge_png, line_of

CONTENT = NUCLEI.read_bytes()  # 256 × 256 pixels
NOTES = ["condinst cuts it into 4 tiles of 160×160 pixels"]


def post(client: httpx.Client, query: str, content: bytes = CONTENT) -> httpx.Response:
    return client.post(f"/v1/predict?{query}", content=content)


def test_the_tiles_of_requests_and_of_the_server(client: httpx.Client, serve: Callable[..., Running]) -> None:
    wanted = Predictor("nuclei", tile=160, overlap=0.3)(CONTENT)
    answer = post(client, "tile=160&overlap=0.3")
    assert [each["segmentation"] for each in answer.json()["annotations"]] == list(wanted.masks.rle)
    assert json.loads(answer.headers["x-condinst-notes"]) == answer.json()["info"]["notes"] == NOTES
    whole = post(client, "").json()
    assert whole != answer.json()
    for query in ("tile=off", "tile=auto&overlap=100", "tile=256", "overlap=0"):
        assert post(client, query).json() == whole
    outputs = infer(client, parameters={"tile": 160, "overlap": 0.3}).json()["outputs"]
    assert outputs[1]["data"] == wanted.conf.tolist()
    server = serve("--tile", "160", "--overlap", "0.3", "--max-tiles", "4")
    with server.client() as other:
        assert post(other, "").json() == answer.json()
        assert post(other, "tile=off").json() == whole
        assert "overlap: expected" in line_of(post(other, "overlap=100"))
        assert "over the limit of 4 tiles" in line_of(post(other, "tile=64"))


WRONG = {
    "tile": [
        "0",
        "-1",
        "31",
        "65537",
        "9" * 5000,
        "%D9%A2%D9%A5%D9%A6",
        "128.0",
        "",
        "big",
        "true",
        "128&tile=64",
        "2000",
    ],
    "overlap": ["-0.1", "nan", "inf", "1e9", "half", "40&tile=64", "0.9&tile=64"],
}  # %D9…: 256 in Arabic digits


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tiles_are_one_line(client: httpx.Client, name: str) -> None:
    for value in WRONG[name]:
        answer = post(client, f"{name}={value}")
        assert (answer.status_code, name in line_of(answer)) == (422, True), answer.text
    for given in (-1, True, [0.1], "x", 10**300, 1e300):
        answer = infer(client, parameters={name: given})
        assert (answer.status_code, line_of(answer).startswith(name)) == (422, True), answer.text


def test_the_number_of_tiles_is_bounded(client: httpx.Client) -> None:
    answer = post(client, "tile=32&overlap=16", huge_png(1_900_000, 1))
    assert answer.status_code == 413
    told = "1900000×1 pixels need 118,749 tiles of 32×32 pixels, over the limit of 1,000 tiles; choose larger tiles"
    assert line_of(answer).startswith(told)
    assert post(client, "tile=32", huge_png(2_000_000_000, 1)).status_code == 413
    assert post(client, "").status_code == 200
