"""The page, the reference and the headers of answers."""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from condinst.serve.http.page import policy
from tests.serve.running import NUCLEI


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_allows_no_outside_address(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' blob: data:"
    assert rules["connect-src"] == "'self'"
    assert "unsafe" not in " ".join(rules.values())
    for kind in ("style", "script"):
        for content in re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in rules[f"{kind}-src"]
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", answer.text)


def test_the_policy_names_each_inline_script() -> None:
    text = policy("<script>a</script><STYLE media=print>b</STYLE><script type=module>c</script>")
    assert text.count("'sha256-") == 3
    assert "script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=' 'sha256-" in text  # of the letter a


def test_every_answer_forbids_guessing_its_type(client: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.post("/v1/predict", content=b"x")):
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_reference_lists_every_route_and_parameter(client: httpx.Client) -> None:
    document, page = client.get("/openapi.json").json(), client.get("/docs").text
    assert {"/v1/predict", "/v1/models", "/healthz", "/readyz", "/metrics"} <= set(document["paths"])
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert f"{method.upper()} {path}" in page
            for parameter in route.get("parameters", []):
                assert f"<td>{parameter['name']}</td>" in page
    predict = document["paths"]["/v1/predict"]["post"]
    assert set(predict["responses"]) >= {"200", "401", "408", "413", "415", "422", "503", "504"}
    assert set(predict["requestBody"]["content"]) == {"image/*", "multipart/form-data"}


def test_metrics_count_requests(client: httpx.Client) -> None:
    def counted() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        requests = next(family for family in families if family.name == "condinst_requests")
        samples = [each for each in requests.samples if each.name == "condinst_requests_total"]
        return {(each.labels["path"], each.labels["status"]): each.value for each in samples}

    before = counted()
    for path in ("/v1/predict?size=32", "/v1/predict?size=x", "/no/such/path", "/another"):
        client.post(path, content=NUCLEI.read_bytes())
    after = counted()
    added = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key)}
    assert added == {
        ("/v1/predict", "200"): 1, ("/v1/predict", "422"): 1, ("other", "404"): 2, ("/metrics", "200"): 1
    }  # fmt: skip


def test_a_small_answer_takes_no_delay_of_the_network(client: httpx.Client) -> None:
    """Without TCP_NODELAY, each answer takes 40 ms longer."""
    times = []
    for _ in range(15):
        start = time.perf_counter()
        client.post("/v1/predict", content=b"no picture")
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.03
