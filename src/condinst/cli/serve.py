"""`condinst serve`: answer requests over HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from condinst.cli.options import Device, ModeOption, OverlapOption, TileOption
from condinst.cli.terminal.say import say

TOKEN = "CONDINST_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Model to offer: a name from `condinst models`, a folder or a file. Repeat the option for several "
            "models; NAME=MODEL sets the name. Default: nuclei.",
        ),
    ] = None,
    conf: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest score of a request that names none. Default: 0.5.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. 0.0.0.0 means all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 means any free port.")] = 8000,
    device: Device = None,
    mode: ModeOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Most pictures of one size to predict together.")] = 4,
    queue: Annotated[int, typer.Option(min=1, help="Most pictures that wait.")] = 64,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds within which a picture is answered.")] = 30,
    max_body: Annotated[float, typer.Option(min=0.001, metavar="MIB", help="Largest request in MiB.")] = 64,
    body_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds within which a request must arrive.")] = 30,
    max_pixels: Annotated[int, typer.Option(min=1, help="Reject pictures with more pixels.")] = 50_000_000,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    max_tiles: Annotated[int, typer.Option(min=1, help="Reject pictures that need more tiles.")] = 1000,
    no_token: Annotated[
        bool, typer.Option("--no-token", help=f"Serve other computers without a token ({TOKEN}).")
    ] = False,
    pictures_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Another server, for example https://pictures.example.org, from which the pictures of Label Studio "
            "tasks may come. Repeat the option for several servers.",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve models over HTTP, with a page at / for the browser.

    Example: condinst serve --model nuclei --open

    Set the environment variable CONDINST_TOKEN to a secret, and each request needs it as a bearer token. Ctrl-C and
    SIGTERM stop the server after it has answered the accepted requests.
    """
    from condinst.errors import UsageError
    from condinst.settings.prediction import SHOWN_SCORE

    token = os.environ.get(TOKEN, "")
    if not token and host not in LOOPBACK and not no_token:
        raise UsageError(
            f"--host {host} is open to other computers; set the environment variable {TOKEN} to a secret, or add "
            "--no-token"
        )
    try:
        from condinst.serve.run import Options, serve
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "condinst":
            raise
        raise UsageError(f"condinst serve needs {error.name}: pip install 'condinst[serve]'") from None
    serve(
        Options(
            models=tuple(model or ["nuclei"]),
            conf=SHOWN_SCORE if conf is None else conf,
            host=host,
            port=port,
            device=device,
            mode=mode.value if mode else None,
            max_body=max_body,
            max_pixels=max_pixels,
            max_tiles=max_tiles,
            tile=tile,
            overlap=overlap,
            deadline=deadline,
            body_timeout=body_timeout,
            queue=queue,
            batch=batch,
            token=token,
            label_studio=os.environ.get("LABEL_STUDIO_URL", ""),
            label_studio_key=os.environ.get("LABEL_STUDIO_API_KEY", ""),
            pictures_from=tuple(pictures_from or ()),
            open=open_page,
        ),
        say,
    )
