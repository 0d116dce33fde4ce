"""A manifest on a real Ray cluster of this machine: each picture once after a kill, and pictures and rows on S3."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from condinst.ray import run
from tests.many.test_parquet import read_parquet
from tests.many.test_shards import make_pictures

MISSING = [name for name in ("ray", "pyarrow", "moto", "flask") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra 'ray' or its tests need {MISSING}")

# Two actors and small pictures; the cluster has more CPUs by name than the machine may have
PROGRAM = """
import sys, ray
from condinst import UsageError
from condinst.ray import predict_manifest
ray.init(num_cpus=4, log_to_driver=False)
try:
    predict_manifest(sys.argv[1], sys.argv[2], shard_size=2, shorter=64, longer=64, actors=5)
except UsageError as error:
    print(error)
print(*predict_manifest(sys.argv[1], sys.argv[2], shard_size=2, shorter=64, longer=64))
"""


def start(manifest: str, out: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_worker_niceness": "0"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, manifest, out], stdout=subprocess.PIPE, text=True, env=env)


def numbers(process: subprocess.Popen[str]) -> list[int]:
    """The summary: pictures, earlier, left out, instances."""
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert said.startswith("actors: 5 need 5 CPUs, and the Ray cluster has 4 CPUs\n")
    return [int(word) for word in said.split()[-4:]]


@pytest.mark.slow
def test_after_a_kill_each_picture_has_one_row(tmp_path: Path) -> None:
    pictures = sorted(make_pictures(tmp_path / "cells", 19).iterdir())
    manifest, out = tmp_path / "list.txt", tmp_path / "out"
    lines = [*map(str, pictures), str(tmp_path / "none.png")]
    manifest.write_text("\n".join([*lines, lines[0], ""]))  # a picture that is named twice is predicted once
    first = start(str(manifest), str(out))
    while first.poll() is None and len(list(out.glob("results-*"))) < 2:
        time.sleep(0.02)
    first.kill()  # the program alone; its cluster ends by itself
    first.communicate()
    before = len(read_parquet(out))
    done = numbers(start(str(manifest), str(out)))
    assert 4 <= before <= done[1] < len(lines)
    assert done[0] + done[1] == len(lines)
    found = read_parquet(out)
    assert sorted(one["source"] for one in found) == sorted(lines)
    reasons = {one["source"]: one["left_out"] for one in found if "left_out" in one}
    assert sorted(reasons) == sorted([str(pictures[-1]), lines[-1]])
    assert not list(out.glob(".*"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with the interface of S3 and an empty bucket. Yields its address."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    login = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (login | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
    yield address
    server.stop()


@pytest.mark.slow
def test_pictures_and_rows_on_s3(bucket: str, tmp_path: Path) -> None:
    import boto3
    from pyarrow.fs import S3FileSystem
    from pyarrow.parquet import read_table

    from condinst.ray.store import Store

    client = boto3.client("s3", endpoint_url=bucket)
    pictures = sorted(make_pictures(tmp_path / "cells", 5).iterdir())
    for path in pictures:
        client.put_object(Bucket="bucket", Key=f"a b#/{path.name}", Body=path.read_bytes())
    names = [*(f"s3://bucket/a b#/{path.name}" for path in pictures), "s3://bucket/none.png", str(pictures[0])]
    client.put_object(Bucket="bucket", Key="list.txt", Body="\n".join(names).encode())
    done = numbers(start("s3://bucket/list.txt", "s3://bucket/results"))
    assert done[:3] == [8, 0, 2]
    system = S3FileSystem(endpoint_override=bucket)
    rows = read_table("bucket/results", filesystem=system).to_pylist()
    assert sorted(row["source"] for row in rows) == sorted(names)
    reasons = {row["source"]: row["left_out"] for row in rows if row["left_out"]}
    assert reasons.keys() == {names[5], "s3://bucket/none.png"}
    assert all(source in reason for source, reason in reasons.items())
    assert run.waiting(names, 2, Store("s3://bucket/results")) == {}
    same = [row["annotations"] for row in rows if row["source"] in (names[0], names[-1])]
    assert same[0] == same[1]
