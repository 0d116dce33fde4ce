"""Predict the pictures of a manifest with actors of Ray Data. Each picture gets one row, whatever ends a run."""

from __future__ import annotations

import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from condinst.errors import CondinstError, UsageError, first_line, hide_secrets, one_line
from condinst.many.rows import PARQUET, writer

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from condinst.predictor import Predictor
    from condinst.ray.store import Store

TRIES = 3  # that a shard gets if its process dies


class Summary(NamedTuple):
    """What a run did: pictures with a row of this run, of an earlier run, without a result; instances of this run."""

    pictures: int
    earlier: int
    left_out: int
    instances: int


def predict_manifest(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str = "nuclei",
    actors: int = 2,
    batch: int = 1,
    gpus: float = 0,
    column: str = "source",
    shard_size: int = 1000,
    told: Callable[[Summary], None] = lambda _: None,
    **settings: Any,
) -> Summary:
    """Segment all pictures of a manifest on a Ray cluster and write their rows to Parquet files.

        condinst.ray.predict_manifest("s3://my-bucket/list.txt", "s3://my-bucket/results", "nuclei", actors=16)

    It uses the cluster of `ray.init`, of the variable RAY_ADDRESS, or else this machine. A second call with the same
    arguments predicts only the pictures without a row. `many.rows.schema` has the columns.

    manifest: a text file with a path or URI on each line, or a Parquet file whose `column` has them. out: a folder.
    model, settings: arguments of `Predictor`. actors: processes, with one CPU and `gpus` GPUs each. batch: pictures of
    a pass through the network. shard_size: pictures of a file. told: called after each file.

    Raises UsageError for a wrong argument, a missing package or a folder with other results, DataError for the
    manifest, ModelError for the model, CondinstError if shards are not done.
    """
    _check(actors=actors, batch=batch, shard_size=shard_size)
    from condinst.ray.places import check_access, read_manifest
    from condinst.ray.store import Store

    pictures, place = read_manifest(os.fspath(manifest), column), os.fspath(out)
    place = place if "://" in place else os.path.abspath(place)
    check_access(pictures)
    from condinst.predictor import Predictor  # after the quick checks: it takes seconds

    store = Store(place)
    store.keep_settings(_describe(Predictor(model, **settings), batch))
    shards = waiting(pictures, shard_size, store)
    left = sum(len(shard) for shard in shards.values())
    done = Summary(0, len(pictures) - left, 0, 0)
    if shards:
        with _cluster(actors, gpus):
            given = (model, settings, place, batch, os.getcwd())
            done = _run(given, shards, actors, gpus, done, told)
    return done


def _check(**counts: int) -> None:
    """Raise UsageError for a missing package or a wrong number."""
    for package in ("ray", "pyarrow"):
        if find_spec(package) is None:
            raise UsageError(f"condinst.ray needs the package {package}; install it: pip install 'condinst[ray]'")
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name}: expected a number from 1 on, got {value}")


def waiting(pictures: list[str], size: int, store: Store) -> dict[str, list[str]]:
    """The files that are missing, and the pictures of each.

    The shards are those of the whole manifest. Files of other shards, of a shorter manifest or with another size, are
    read, and their pictures left out.
    """
    from condinst.ray.store import RESULTS, name_of

    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    shards = {name_of(part): part for part in parts}
    present = {name for name in store.names() if RESULTS.fullmatch(name)}
    done = store.pictures(present - shards.keys())
    rests = [
        [picture for picture in part if picture not in done] for name, part in shards.items() if name not in present
    ]
    return {name_of(rest): rest for rest in rests if rest}


class Tries:
    """An actor that counts how often each shard began. Ray repeats a shard whose process died without end."""

    def __init__(self) -> None:
        self.begun = Counter[str]()

    def begin(self, name: str) -> int:
        """Count one more. Return how often the shard began before."""
        self.begun[name] += 1
        return self.begun[name] - 1


class Segmenter:
    """An actor: a predictor that writes the files of shards."""

    def __init__(
        self, model: str, settings: Mapping[str, Any], out: str, batch: int, folder: str, tries: ActorHandle
    ) -> None:
        """folder: of relative paths in the manifest. tries: counts the tries of all actors."""
        from condinst.predictor import Predictor
        from condinst.ray.store import Store

        self.predictor, self.store = Predictor(model, **settings), Store(out)
        self.batch, self.folder, self.tries = batch, folder, tries

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Predict a shard and write its file. Return its numbers, and the reason if it is not done."""
        import ray

        from condinst.many.shard import write_records
        from condinst.ray.places import openable

        if ray.get(self.tries.begin.remote(shard["name"])) == TRIES:
            return _undone(f"its process ended {TRIES} times; the memory may be too small: give fewer actors")
        content, pictures = io.BytesIO(), [str(one) for one in shard["pictures"]]
        try:
            with writer(PARQUET, content) as write:
                opened = partial(openable, folder=self.folder)
                done = write_records(write, self.predictor, pictures, self.batch, None, opened)
            self.store.write(shard["name"], content.getvalue())
        except CondinstError as error:
            return _undone(str(error))
        return {**done._asdict(), "error": ""}


def _undone(error: str) -> dict[str, Any]:
    return {"pictures": 0, "left_out": 0, "instances": 0, "error": error}


def _run(
    given: tuple[Any, ...],
    shards: Mapping[str, list[str]],
    actors: int,
    gpus: float,
    done: Summary,
    told: Callable[[Summary], None],
) -> Summary:
    """Predict the shards. given: arguments of `Segmenter` without the last. Raises CondinstError if one is not done."""
    import ray
    from ray.data import ActorPoolStrategy, from_items
    from ray.exceptions import RayActorError

    rows = [{"name": name, "pictures": part} for name, part in shards.items()]
    results = from_items(rows, override_num_blocks=len(rows)).map(
        Segmenter,
        fn_constructor_args=(*given, ray.remote(num_cpus=0)(Tries).remote()),
        compute=ActorPoolStrategy(size=min(actors, len(rows))),
        num_cpus=1,
        num_gpus=gpus or None,
    )
    faults: list[str] = []
    try:
        for row in results.iter_rows():
            faults += [row["error"]] if row["error"] else []
            numbers = (row["pictures"], 0, row["left_out"], row["instances"])
            done = Summary(*(old + new for old, new in zip(done, numbers, strict=True)))
            told(done)
    except RayActorError as error:
        raise CondinstError(f"a process of the cluster ended ({one_line(first_line(error))}); run it again") from None
    if faults:
        raise CondinstError(f"{len(faults)} of {len(rows)} shards are not done ({faults[0]}); run it again")
    return done


@contextmanager
def _cluster(actors: int, gpus: float) -> Iterator[None]:
    """Use the cluster of the caller, or start or find one. Raises UsageError if it is too small for the actors."""
    import ray
    from ray.data import DataContext

    begun = not ray.is_initialized()
    if begun:
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 leaves the actors behind all other programs
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise CondinstError(f"the Ray cluster cannot be reached ({one_line(first_line(error))})") from None
    DataContext.get_current().enable_progress_bars = False
    try:
        found = ray.cluster_resources()
        for kind, each in (("CPU", 1), ("GPU", gpus)):
            if actors * each > found.get(kind, 0):
                many = f"{found.get(kind, 0):g} {kind}s"
                raise UsageError(f"actors: {actors} need {actors * each:g} {kind}s, and the Ray cluster has {many}")
        yield
    finally:
        if begun:
            ray.shutdown()


def _describe(predictor: Predictor, batch: int) -> dict[str, Any]:
    """What affects the results. A later run into the same folder must have the same values."""
    settings = sha256(predictor.config.model_dump_json().encode()).hexdigest()[:16]
    model = hide_secrets(predictor.model)
    return {"model": model, "mode": predictor.mode, "conf": predictor.conf, "batch": batch, "settings": settings}
