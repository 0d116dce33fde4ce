"""Pictures of one size run together, and no answer depends on the others. A client that goes away costs nothing."""

from __future__ import annotations

import io
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serve.running import NUCLEI, PICTURES, Running, wait_for

SIZES = [(192, 192), (160, 160), (192, 256)]


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Twelve crops of three sizes."""
    whole = np.asarray(Image.open(PICTURES / "nuclei" / "fluorescence_large.png").convert("RGB"))
    steps = range(0, 4 * 40, 40)
    return [png(whole[y : y + height, y : y + width]) for height, width in SIZES for y in steps]


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def test_an_answer_does_not_depend_on_other_requests(client: httpx.Client, pictures: list[bytes]) -> None:
    queries = [{"size": "160"}, {"size": "160", "conf": "0.2"}]
    work = [(query, picture) for picture in pictures for query in queries]

    def ask(each: tuple[dict[str, str], bytes]) -> dict[str, object]:
        answer = client.post("/v1/predict", params=each[0], content=each[1])
        assert answer.status_code == 200, answer.text
        document: dict[str, object] = answer.json()
        return document

    alone = [ask(each) for each in work]
    batches, count = metric(client, "condinst_batch_pictures_count"), metric(client, "condinst_batch_pictures_sum")
    with ThreadPoolExecutor(len(work)) as pool:
        together = list(pool.map(ask, work))
    assert together == alone
    batches, count = (
        metric(client, "condinst_batch_pictures_count") - batches,
        metric(client, "condinst_batch_pictures_sum") - count,
    )
    assert count == len(work)
    assert batches < count / 1.5  # pictures ran together


def test_a_request_whose_client_left_is_not_predicted(server: Running, client: httpx.Client) -> None:
    content = NUCLEI.read_bytes()
    before = metric(client, "condinst_batch_pictures_sum")
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(client.post, "/v1/predict?size=1280", content=content)
        wait_for(lambda: metric(client, "condinst_busy_pictures") == 1)
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        for connection in connections:
            connection.sendall(head + content)
        wait_for(lambda: metric(client, "condinst_waiting_pictures") == 8)
        for connection in connections:
            connection.close()
        wait_for(lambda: metric(client, "condinst_waiting_pictures") == 0)
        assert not busy.done()
        assert busy.result().status_code == 200
    wait_for(lambda: metric(client, "condinst_batch_pictures_sum") > before)  # counted after the answers
    assert metric(client, "condinst_batch_pictures_sum") == before + 1


@pytest.mark.slow
def test_memory_stays_flat(client: httpx.Client, pictures: list[bytes]) -> None:
    def rounds(count: int) -> float:
        for number in range(count):
            params = {"size": "32", "max_detections": "3", "format": ("coco", "png", "polygons")[number % 3]}
            assert client.post("/v1/predict", params=params, content=pictures[number % 12]).status_code == 200
            client.post("/v1/predict", content=b"no picture")
        return metric(client, "condinst_resident_bytes")

    start = rounds(100)
    assert rounds(200) - start < 8 * 2**20
