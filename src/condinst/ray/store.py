"""The folder of the results: Parquet files that are complete or absent, and the settings of the run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

from pyarrow.fs import FileSelector, FileType
from pyarrow.parquet import read_table

from condinst.errors import CondinstError, UsageError
from condinst.ray.places import FAULTS, STORES, Place, is_uri, locate, reason

SETTINGS = "_condinst.json"  # readers of Parquet folders leave out names that begin with "_"
RESULTS = re.compile(r"results-[0-9a-f]{16}\.parquet")


def name_of(pictures: Iterable[str]) -> str:
    """The file of a shard. The same pictures have the same file, so a shard that is written twice is there once."""
    return f"results-{sha256(json.dumps(list(pictures)).encode()).hexdigest()[:16]}.parquet"


class Store:
    """A local folder, or a folder at a URI. Its methods raise CondinstError if it cannot be used."""

    def __init__(self, out: str) -> None:
        self.place: Place = locate(out.rstrip("/"))
        self.whole = is_uri(out) and out.split("://")[0] in STORES

    def names(self) -> set[str]:
        """The names of all files in the folder."""
        try:
            found = self.place.system.get_file_info(FileSelector(self.place.path, allow_not_found=True))
        except FAULTS as error:
            raise self._fault(error) from None
        return {one.base_name for one in found if one.type == FileType.File}

    def pictures(self, names: Iterable[str]) -> set[str]:
        """The pictures that have a row in these files."""
        found: set[str] = set()
        for name in names:
            try:
                table = read_table(f"{self.place.path}/{name}", columns=["source"], filesystem=self.place.system)
            except FAULTS as error:
                raise CondinstError(
                    f"{self.place.name}/{name}: cannot be read ({reason(error)}); remove the file"
                ) from None
            found.update(table.column("source").to_pylist())
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write a file, completely or not at all."""
        system, path = self.place.system, f"{self.place.path}/{name}"
        temporary = path if self.whole else f"{self.place.path}/.{name}.{uuid4().hex}.part"
        try:
            if not self.whole:
                system.create_dir(self.place.path)
            with system.open_output_stream(temporary) as file:
                file.write(content)
            if not self.whole:
                system.move(temporary, path)
        except FAULTS as error:
            raise self._fault(error) from None

    def keep_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of a new run. Raises UsageError for a folder of another run or with other files."""
        names = self.names()
        if SETTINGS not in names:
            if names:
                raise UsageError(f"{self.place.name}: holds other files; choose another folder")
            self.write(SETTINGS, json.dumps(dict(settings)).encode())
            return
        try:
            with self.place.system.open_input_stream(f"{self.place.path}/{SETTINGS}") as file:
                told = json.loads(file.read())
        except FAULTS as error:
            raise self._fault(error) from None
        for key in settings:
            if told.get(key) != settings[key]:
                raise UsageError(f"{self.place.name}: holds results with another {key}; choose another folder")

    def _fault(self, error: BaseException) -> CondinstError:
        return CondinstError(f"{self.place.name}: cannot be used for the results ({reason(error)})")
