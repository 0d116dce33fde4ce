"""The interface for Label Studio on a real server, with pictures from a server in the place of Label Studio."""

from __future__ import annotations

import base64
from http.server import ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest

from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode
from condinst.predictor import Predictor
from condinst.serve.label_studio.brush import brush_rle
from condinst.serve.label_studio.config import Shape, find_control, labels_of_classes
from condinst.serve.refusal import RequestError
from tests.serve.running import NUCLEI, Running, wait_for
from tests.serve.studio import KEY, address

CONTENT = NUCLEI.read_bytes()
INLINE = f"data:image/png;base64,{base64.b64encode(CONTENT).decode()}"
BRUSH = """
<View>
  <Header value="Draw the nuclei"/>
  <Image name="img" value="$picture" zoom="true"/>
  <BrushLabels name="tag" toName="img"><Label value="Cell"/><Label value="Nucleus" background="red"/></BrushLabels>
</View>"""


def config(kind: str, *labels: str) -> str:
    inner = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View><Image name="i" value="$image"/><{kind} name="t" toName="i">{inner}</{kind}></View>'


@pytest.fixture(scope="module")
def result() -> Result:
    return Predictor("nuclei")(CONTENT)


def predict(client: httpx.Client, *places: object, label_config: str = BRUSH, key: str = "picture") -> httpx.Response:
    tasks = [{"id": number, "data": {key: place}} for number, place in enumerate(places, 1)]
    request = {"tasks": tasks, "label_config": label_config, "project": "1.1700000000", "params": {"context": None}}
    return client.post("/predict", json=request)


def brush_bitmap(code: list[int], height: int, width: int) -> np.ndarray:
    """Decode a brush mask by the description of the format, bit by bit. All four channels must agree."""
    bits = "".join(f"{byte:08b}" for byte in code)
    place = 0

    def read(length: int) -> int:
        nonlocal place
        place += length
        return int(bits[place - length : place], 2)

    count, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        run = read(1)
        number = read(lengths[read(2)]) + 1
        values += [read(word)] * number if run else [read(word) for _ in range(number)]
    assert len(values) == count == height * width * 4
    assert len(bits) - place < 8
    pixels = np.array(values).reshape(height, width, 4)
    assert np.isin(pixels, (0, 255)).all()
    assert (pixels == pixels[..., :1]).all()
    bitmap: np.ndarray = pixels[..., 3] == 255
    return bitmap


@pytest.mark.parametrize("seed", range(6))
def test_the_brush_code_keeps_every_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 40)), int(rng.integers(1, 300))
    bitmap = rng.random((height, width)) < (0.02, 0.5, 0.98, 1.0, 0.0, 0.3)[seed]
    rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
    inside = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else np.zeros((0, 0), bool)
    x, y = (int(columns[0]), int(rows[0])) if len(rows) else (0, 0)
    assert np.array_equal(brush_bitmap(brush_rle(encode(Region(inside, x, y), height, width)), height, width), bitmap)


def test_long_runs_are_split() -> None:
    code = brush_rle(encode(Region(np.ones((300, 200), dtype=bool), 0, 100), 400, 200))
    assert len(code) < 30
    assert brush_bitmap(code, 400, 200).sum() == 60_000


def test_setup_and_health(client: httpx.Client, server: Running) -> None:
    assert client.get("/health").json()["status"] == "UP"
    request = {"project": "1.1", "schema": BRUSH, "hostname": "http://a", "access_token": "x"}
    version = client.post("/setup", json=request).json()["model_version"]
    assert version.startswith("nuclei-")
    assert len(version) == len("nuclei-") + 8
    assert client.post("/label-studio/fungi/setup", json=request).status_code == 422  # its class is no label
    assert client.get("/label-studio/fungi/health").json()["status"] == "UP"
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200
    assert client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 501
    assert client.post("/train", json={}).status_code == 501
    logged = "Label Studio cannot use the model 'fungi': label_config: the labels are Cell, Nucleus"
    wait_for(lambda: any(logged in line for line in server.lines))


def test_brush_masks(client: httpx.Client, result: Result, studios: list[ThreadingHTTPServer]) -> None:
    document = predict(client, "/data/upload/1/a.png").json()
    assert document["model_version"].startswith("nuclei-")
    (prediction,) = document["results"]
    assert prediction["model_version"] == document["model_version"]
    assert prediction["score"] == pytest.approx(float(result.conf.mean()), abs=1e-4)
    height, width = result.orig_shape
    regions = prediction["result"]
    assert len({region["id"] for region in regions}) == len(regions) == len(result)
    for region, bitmap, score in zip(regions, result.masks.data.numpy(), result.conf.tolist(), strict=True):
        names = ("from_name", "to_name", "type", "original_width", "original_height")
        assert [region[name] for name in names] == ["tag", "img", "brushlabels", width, height]
        assert region["value"]["format"] == "rle"
        assert region["value"]["brushlabels"] == ["Nucleus"]
        assert region["score"] == pytest.approx(score, abs=1e-4)
        assert np.array_equal(brush_bitmap(region["value"]["rle"], height, width), bitmap)
    assert ("/data/upload/1/a.png", f"Token {KEY}") in studios[0].RequestHandlerClass.asked  # type: ignore[attr-defined]


def test_rectangles_in_percent(client: httpx.Client, result: Result) -> None:
    answer = predict(client, INLINE, label_config=config("RectangleLabels", "anything"), key="image").json()
    height, width = result.orig_shape
    values = [region["value"] for region in answer["results"][0]["result"]]
    boxes = [[v["x"], v["y"], v["x"] + v["width"], v["y"] + v["height"]] for v in values]
    assert np.allclose(np.array(boxes) * [width, height, width, height] / 100, result.boxes.xyxy.numpy(), atol=1e-3)
    assert {value["rectanglelabels"][0] for value in values} == {"anything"}  # one class, one label


def test_polygons_in_percent(client: httpx.Client, result: Result) -> None:
    answer = predict(client, INLINE, label_config=config("PolygonLabels", "nucleus", "x"), key="image").json()
    regions = answer["results"][0]["result"]
    assert len(regions) == sum(map(len, result.polygons))
    points = np.array(regions[0]["value"]["points"]) * np.array(result.orig_shape[::-1]) / 100
    corners = result.boxes.xyxy[0].numpy()
    assert np.abs(points.min(0) - corners[:2]).max() < 4
    assert np.abs(points.max(0) - corners[2:]).max() < 4


def test_a_task_without_a_usable_picture_keeps_its_place(client: httpx.Client, server: Running) -> None:
    answer = predict(client, "/data/upload/1/gone.png", INLINE, {"no": "text"}, "data:image/png;base64,AAAA")
    assert answer.status_code == 200
    counts = [len(prediction["result"]) for prediction in answer.json()["results"]]
    assert counts[1] > 10
    assert counts == [0, counts[1], 0, 0]
    wait_for(lambda: sum(line.startswith("left out: task ") for line in server.lines) >= 3)
    assert any("task 1: " in line and "HTTP 401" in line for line in server.lines)


def test_no_task_is_fine(client: httpx.Client) -> None:
    assert predict(client).json()["results"] == []


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        ("/tasks/2/resolve/", 422, "which is not an allowed server"),
        ("http://169.254.169.254/latest/meta-data", 422, "--pictures-from http://169.254.169.254 allows it"),
        ("http://127.0.0.1:1/a.png", 422, "fetches from no such place"),
        ("https://127.0.0.1:99999/a.png", 422, "the address is malformed"),
        ("file:///etc/passwd", 422, "expected a path of Label Studio"),
        ("//127.0.0.1/a.png", 422, "expected a path of Label Studio"),
        ("s3://bucket/a.png", 422, "expected a path of Label Studio"),
        ("/data/upload/1/large.png", 422, "more than 2 MiB"),
        ("data:image/png;base64,%%%", 422, "the picture in the task is damaged"),
        ("data:,hello", 415, "not an image"),
        (7, 422, "expected the place of a picture under 'picture'"),
    ],
)
def test_pictures_that_are_refused(client: httpx.Client, place: object, status: int, words: str) -> None:
    answer = predict(client, place)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert answer.json()["error"].startswith("task 1: ")


def test_pictures_of_allowed_servers(client: httpx.Client, studios: list[ThreadingHTTPServer]) -> None:
    """The token goes to Label Studio alone."""
    answer = predict(client, "/tasks/1/resolve/", f"{address(studios[1])}/free/b.png")
    assert [len(prediction["result"]) > 10 for prediction in answer.json()["results"]] == [True, True]
    assert studios[1].RequestHandlerClass.asked == [("/free/b.png", None)]  # type: ignore[attr-defined]
    assert studios[2].RequestHandlerClass.asked == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 422, "expected a JSON object"),
        (b"{}", 422, "label_config: expected a text"),
        (b'{"label_config": "<View/>", "tasks": []}', 422, "no BrushLabels"),
        (b'{"label_config": "<View>", "tasks": []}', 422, "cannot be read as XML"),
        (b'{"label_config": 5}', 422, "label_config: expected a text"),
        (b"[" * 100_000, 400, "not JSON"),
    ],
)
def test_bad_requests(client: httpx.Client, body: bytes, status: int, words: str) -> None:
    answer = client.post("/predict", content=body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_bad_tasks(client: httpx.Client) -> None:
    for tasks in (None, {}, [1], "x"):
        answer = client.post("/predict", json={"label_config": BRUSH, "tasks": tasks})
        assert (answer.status_code, answer.json()["error"]) == (422, "tasks: expected a list of tasks")


def test_an_unknown_model(client: httpx.Client) -> None:
    assert client.post("/label-studio/x/predict", json={}).status_code == 404


def test_the_best_control_is_chosen() -> None:
    both = BRUSH.replace(
        "</View>", '<RectangleLabels name="r" toName="img"><Label value="a"/></RectangleLabels></View>'
    )
    assert find_control(both).shape is Shape.brush
    assert find_control(both) == ("tag", "img", "picture", Shape.brush, ("Cell", "Nucleus"))
    aliased = config("PolygonLabels", "a").replace('value="a"', 'value="a" alias="b"')
    assert find_control(aliased).labels == ("b",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        config("Choices", "a"),
        BRUSH.replace('toName="img"', 'toName="other"'),
        BRUSH.replace("$picture", "https://a/b.png"),
        '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><View/>',
    ],
)
def test_unusable_interfaces(text: str) -> None:
    with pytest.raises(RequestError, match="label_config: ") as refused:
        find_control(text)
    assert refused.value.status == 422


def test_labels_of_classes() -> None:
    control: Any = find_control(BRUSH)
    assert labels_of_classes(control, {0: "NUCLEUS", 1: "other", 2: "cell"}) == {0: "Nucleus", 2: "Cell"}
    with pytest.raises(RequestError, match="the labels are Cell, Nucleus; the classes of the model are a, b"):
        labels_of_classes(control, {0: "a", 1: "b"})
