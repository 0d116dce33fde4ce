"""Start a server, and stop it when a signal asks for it."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import python_multipart
import uvicorn
from fastapi import FastAPI

from condinst.errors import CondinstError, PictureWarning
from condinst.inference.network import Mode
from condinst.serve.app import make_app
from condinst.serve.http.body import MIB, BodyReader
from condinst.serve.http.protocol import Connection
from condinst.serve.label_studio.pictures import Pictures, server_of
from condinst.serve.metrics import Metrics
from condinst.serve.models import load_models
from condinst.serve.service import Service
from condinst.serve.work.jobs import Queue
from condinst.serve.work.worker import Worker
from condinst.settings.prediction import SHOWN_SCORE

INTERRUPTED = 130  # the exit code
KEEP_ALIVE = 30  # seconds that an idle connection stays open


@dataclass(frozen=True)
class Options:
    """The options of `condinst serve`. max_body: MiB. deadline, body_timeout: seconds. token: "" for none.

    max_tiles: of a picture. tile, overlap: for requests that name none; None keeps the models' settings.
    label_studio, label_studio_key: the address of a Label Studio server and its access token, or "". pictures_from:
    further servers of the pictures of its tasks.
    """

    models: tuple[str, ...] = ("nuclei",)
    conf: float = SHOWN_SCORE
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    mode: Mode | None = None
    max_body: float = 64
    max_pixels: int = 50_000_000
    max_tiles: int = 1000
    tile: str | None = None
    overlap: float | None = None
    deadline: float = 30
    body_timeout: float = 30
    queue: int = 64
    batch: int = 4
    token: str = ""
    label_studio: str = ""
    label_studio_key: str = ""
    pictures_from: tuple[str, ...] = ()
    open: bool = False


def serve(options: Options, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. tell: prints a line.

    Raises CondinstError for an address in use and for a worker that had to end, ModelError for a model that cannot be
    loaded. A second signal ends the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PictureWarning)  # the answer has the notes
        pictures = _pictures(options)
        with _bind(options.host, options.port) as place:
            service = make_service(options)
            app = make_app(service, pictures, options.token)
            config = _uvicorn_config(app, options)
            address = _address(options.host, place.getsockname()[1])
            names = ", ".join(service.models.predictors)

            def started() -> None:
                tell(f"serving {names} on {address} (Ctrl-C stops the server)")
                if options.open:  # in a thread, as a browser of the terminal returns when it is closed
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

            service.worker.start()
            Server(config, service, started).run([place])
        service.worker.join()
    if service.worker.broken:
        raise CondinstError(f"the server stopped: {service.worker.broken}")


def _uvicorn_config(app: FastAPI, options: Options) -> uvicorn.Config:
    logging.getLogger(python_multipart.__name__).setLevel(logging.ERROR)  # it reports bad requests, which get an answer

    class Patient(Connection):
        seconds = options.body_timeout

    quiet: dict[str, Any] = {
        "log_config": None,
        "log_level": logging.ERROR,
        "access_log": False,
        "server_header": False,
    }
    limits: dict[str, Any] = {
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": math.ceil(options.deadline + options.body_timeout),
    }
    return uvicorn.Config(app, http=Patient, ws="none", lifespan="off", **quiet, **limits)


def _pictures(options: Options) -> Pictures:
    origins = frozenset(server_of(text, "--pictures-from") for text in options.pictures_from)
    if options.label_studio:
        server_of(options.label_studio, "LABEL_STUDIO_URL")
    return Pictures(options.label_studio, options.label_studio_key, origins, int(options.max_body * MIB))


def make_service(options: Options) -> Service:
    """Load the models and measure how long they take."""
    models = load_models(
        options.models, device=options.device, conf=options.conf, mode=options.mode, max_pixels=options.max_pixels,
        tile=options.tile, overlap=options.overlap,
    )  # fmt: skip
    queue = Queue(options.queue, options.deadline)
    metrics = Metrics(queue)
    worker = Worker(models, queue, options.batch, metrics.batch)
    worker.warm_up()
    reader = BodyReader(int(options.max_body * MIB), options.body_timeout)
    return Service(models, queue, worker, reader, metrics, options.deadline, options.max_tiles)


class Server(uvicorn.Server):
    """Stops at a signal: accepts no further picture, answers the accepted ones, and ends.

    started: called when the server accepts requests.
    """

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self.tell_started = service, started
        self.stopping = False

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(list(sockets or []))
        self.tell_started()

    async def on_tick(self, counter: int) -> bool:
        queue = self.service.queue
        self.should_exit = self.should_exit or (bool(queue.closed) and queue.idle)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the queue at the first signal. End the process at the second one, even within a prediction."""
        if self.stopping:
            os.write(sys.stderr.fileno(), b"interrupted\n")
            os._exit(INTERRUPTED)
        self.stopping = True
        self.service.queue.close("the server is shutting down")


def _bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Clients wait until the models are loaded. Raises CondinstError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets at once only over a socket that names its protocol; else an answer takes 40 ms longer
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # on Windows, the option lets two servers share a port
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
        place.listen()
    except OSError as error:
        place.close()
        reason = error.strerror or error
        raise CondinstError(f"{host}:{port}: cannot serve there ({reason}); try another --port") from None
    return place


def _address(host: str, port: int) -> str:
    """The address that a browser on this computer opens."""
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{here}:{port}"
