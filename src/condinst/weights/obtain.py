"""Find the weights file of a model on this machine, or download the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from condinst.errors import ModelError, first_line
from condinst.weights.catalogue import Checkpoint, nearest
from condinst.weights.fetch import NO_ROOM, DigestError, fetch_url, offline, torch_cache, verify
from condinst.weights.names import CONFIG_FILE, WEIGHTS_FILE, Place, Repository


class HubOptions(NamedTuple):
    """Options of huggingface_hub's functions. They do not apply to https addresses."""

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    force_download: bool = False
    local_files_only: bool = False


class TerminalBar(tqdm):
    """A progress bar, shown only if standard error is a terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": not sys.stderr.isatty()})  # type: ignore[no-untyped-call]


def obtain(place: Place, options: HubOptions | None = None) -> Path:
    """Return the weights file of `place`.

    A published file in the cache needs no network. A model with mirrors comes from the first place that has its file.
    For a repository, the function downloads the newest files if the hub is reachable. Raises ModelError, in one line,
    for every failure.
    """
    if isinstance(place, Path):
        return place
    if isinstance(place, Repository):
        return _from_repository(place.id, options or HubOptions())
    if place.mirrors or not place.on_hub:
        return _from_places(place, options or HubOptions())
    try:
        return _fetch(place, options or HubOptions())
    except DigestError:
        raise
    except ModelError as error:
        raise ModelError(f"{error}; or download it by hand and save it as {torch_cache() / place.kept_as}") from None


def _from_places(checkpoint: Checkpoint, options: HubOptions) -> Path:
    cached = None if options.force_download else find_cached(checkpoint, options)
    if cached:
        return cached
    failures = []
    for copy in checkpoint.copies:
        try:
            return _fetch(copy, options)
        except DigestError:
            raise  # the place answered with another file
        except ModelError as error:
            reason = str(error).removeprefix(f"{copy.address}: ").split(";")[0]
            failures.append(f"{copy.address} ({reason})")
    which = "one of the files" if checkpoint.mirrors else "it"
    raise ModelError(
        f"{checkpoint.short}: no file from {' or '.join(failures)}; download {which} by hand and save it as "
        f"{torch_cache() / checkpoint.kept_as}, or give its path in place of the name"
    )


def _fetch(checkpoint: Checkpoint, options: HubOptions) -> Path:
    if checkpoint.on_hub:
        return _from_hub(checkpoint, options)
    return fetch_url(checkpoint.address, checkpoint.sha256)


def find_cached(checkpoint: Checkpoint, options: HubOptions | None = None) -> Path | None:
    """Return the path of a published file in the cache; None if it was not downloaded."""
    return next((path for copy in checkpoint.copies if (path := _find(copy, options)) is not None), None)


def _find(checkpoint: Checkpoint, options: HubOptions | None) -> Path | None:
    by_hand = torch_cache() / checkpoint.kept_as
    if not checkpoint.on_hub or by_hand.is_file():
        return by_hand if by_hand.is_file() else None
    options = options or HubOptions()
    found = try_to_load_from_cache(
        checkpoint.place, checkpoint.file, cache_dir=options.cache_dir, revision=options.revision
    )
    return Path(found) if isinstance(found, str) else None


def _from_hub(checkpoint: Checkpoint, options: HubOptions) -> Path:
    cached = None if options.force_download else find_cached(checkpoint, options)
    if cached:
        return cached
    path = _snapshot(checkpoint.place, [checkpoint.file], options, checkpoint.address) / checkpoint.file
    try:
        verify(path.resolve(), checkpoint.sha256, checkpoint.address)
    except ModelError:
        path.unlink(missing_ok=True)  # the cache's link to the removed file
        raise
    return path


def _from_repository(name: str, options: HubOptions) -> Path:
    """Download weights and settings of the same commit."""
    near = nearest(name)
    hint = f" (did you mean '{near}'?)" if near else ""
    what = f"model '{name}': no such name, folder or file here{hint}; on the Hugging Face hub"
    return _snapshot(name, [CONFIG_FILE, WEIGHTS_FILE], options, what) / WEIGHTS_FILE


def _snapshot(repository: str, files: list[str], options: HubOptions, what: str) -> Path:
    """Return the folder in the hub's cache with `files` of one commit. what: beginning of an error message."""
    cache = Path(options.cache_dir or constants.HF_HUB_CACHE)
    forbidden = offline() or ("local_files_only" if options.local_files_only else "")
    asked = options._replace(local_files_only=bool(forbidden))._asdict()
    try:
        folder = Path(snapshot_download(repository, allow_patterns=files, tqdm_class=TerminalBar, **asked))
    except Exception as error:  # the errors of the hub's client differ between versions
        raise ModelError(f"{what}: {_reason(error, cache, forbidden)}") from None
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ModelError(f"{what}: {repository} holds no {missing[0]}")
    return folder


def _reason(error: Exception, cache: Path, forbidden: str) -> str:
    if isinstance(error, GatedRepoError):
        return "its owner grants access to each user; ask on its page, then run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, or run `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, LocalEntryNotFoundError) and forbidden:
        return f"not in {cache}, and {forbidden} is set; unset it once to fetch it, or give a local file"
    if isinstance(error, LocalEntryNotFoundError):
        why = f" ({first_line(error.__cause__)})" if error.__cause__ else ""
        return f"not in {cache}, and the Hugging Face hub was not reached{why}; check the connection"
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"{cache} cannot be written ({error.strerror}); free some space, or set HF_HOME to another folder"
    return f"cannot be fetched ({first_line(error)})"
