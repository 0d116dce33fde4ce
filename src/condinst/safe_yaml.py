"""Read untrusted YAML files in bounded time and memory. An error is one line with a line number.

Dates, base-60 numbers (`12:30`) and numbers with a leading zero (`012`) are text, as in YAML 1.2's core schema. `yes`,
`no`, `on` and `off` are booleans, as in YAML 1.1. The parser rejects aliases (`*name`), merge keys, duplicate keys in a
mapping, and tags other than those of plain values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from condinst.errors import one_line
from condinst.foreign import BYTES_READ, missing_content

LARGEST_FILE = 1_000_000  # bytes; a recipe has a few hundred bytes
LONGEST_NUMBER = 100  # characters
DEEPEST = 50  # nested mappings and lists
MOST_VALUES = 100_000  # 20,000 classes with their numbers are 40,000 values

NULL = re.compile(r"|~|null|Null|NULL")
TRUE = re.compile(r"yes|Yes|YES|true|True|TRUE|on|On|ON")
FALSE = re.compile(r"no|No|NO|false|False|FALSE|off|Off|OFF")
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F_]*[0-9a-fA-F]")
# the patterns of PyYAML's writer, which quotes text that matches one of them
REAL = re.compile(r"([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)")
TAG = "tag:yaml.org,2002:"
NO_TEXT = yaml.reader.Reader.NON_PRINTABLE  # control characters and surrogates
FIRST = frozenset("+-.0123456789~nNtTfFyYoO")  # first characters of plain scalars that may not be text


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Raises OSError for an unreadable file, ValueError in one line for wrong content."""
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE / 1e6:.0f} MB")
    if content and (reason := missing_content(content[:BYTES_READ])):
        raise ValueError(reason)
    try:
        return parse_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8 text; save it as UTF-8") from None


def parse_yaml(text: str) -> Any:
    """Parse YAML text. Empty text gives None.

    Raises ValueError for text that is not YAML and for the constructs that this module rejects. The message is one line
    that begins with the line number.
    """
    if strange := NO_TEXT.search(text):
        _fail(text.count("\n", 0, strange.start()), f"the character {strange[0]!a} is not allowed")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _fail(mark.line if mark else 0, error.problem or error.context or "not valid")
    except yaml.YAMLError as error:
        _fail(0, str(error).partition("\n")[0])


def _fail(line: int, problem: str) -> NoReturn:
    raise ValueError(f"line {line + 1}: {one_line(problem)[:200]}") from None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


class _Builder:
    """Build the value from the parser's events, and count its parts."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.events = events
        self.values = 0

    def document(self) -> Any:
        value, documents = None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _fail(_line(event), "a second document begins; keep one of them")
                value = self._value(next(self.events), 0)
        return value

    def _value(self, event: yaml.Event, depth: int) -> Any:
        line = _line(event)
        self.values += 1
        if self.values > MOST_VALUES:
            _fail(line, f"more than {MOST_VALUES:,} values")
        if isinstance(event, yaml.AliasEvent):
            _fail(line, "aliases, as in *name, are not read; write the value out")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if depth == DEEPEST:
            _fail(line, "nested too deeply")
        assert isinstance(event, yaml.CollectionStartEvent)
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if event.tag not in {None, "!", TAG + kind}:
            _fail(line, f"the tag {event.tag} is not read; remove it")
        return self._list(depth + 1) if kind == "seq" else self._mapping(depth + 1)

    def _list(self, depth: int) -> list[Any]:
        return [self._value(event, depth) for event in iter(self._next, None)]

    def _mapping(self, depth: int) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for event in iter(self._next, None):
            key = self._value(event, depth)
            line = _line(event)
            if isinstance(key, list | dict):
                _fail(line, "a list or a mapping is the key of a mapping; use a name")
            if key == "<<":
                _fail(line, "merge keys (<<) are not read; write the values out")
            if key in mapping:
                _fail(line, f"the key '{str(key)[:60]}' stands twice; keep one of them")
            mapping[key] = self._value(next(self.events), depth)
        return mapping

    def _next(self) -> yaml.Event | None:
        """Return the next event of a list or mapping; None at the end."""
        event = next(self.events)
        return None if isinstance(event, yaml.CollectionEndEvent) else event


def _scalar(event: yaml.ScalarEvent) -> Any:
    text, line = event.value, _line(event)
    if not text.isascii() and any(
        0xD800 <= ord(char) < 0xE000 for char in text
    ):  # PyYAML's Python parser accepts surrogates
        _fail(line, "half of a character (a surrogate) stands alone")
    name = None if event.tag in {None, "!"} else event.tag.removeprefix(TAG)
    if name == "str" or (name is None and not event.implicit[0]):
        return text
    if name is None and text and text[0] not in FIRST:
        return text
    if name is not None and name not in KINDS:
        _fail(line, f"the tag {event.tag} is not read; remove it")
    for kind, (pattern, make) in PLAIN:
        if name in {None, kind} and pattern.fullmatch(text):
            if kind in {"int", "float"} and len(text) > LONGEST_NUMBER:
                _fail(line, f"a number of more than {LONGEST_NUMBER} digits")
            return make(text)
    if name is not None:
        _fail(line, f"{text[:60]!a} is no value of the tag {event.tag}")
    return text


def _whole(text: str) -> int:
    return int(text.replace("_", ""))


def _hexadecimal(text: str) -> int:
    return int(text.replace("_", ""), 16)


def _real(text: str) -> float:
    return float(text.replace("_", ""))


def _infinite(text: str) -> float:
    return float(text.replace(".", "").lower())


# The first matching pattern gives the type of a plain scalar. A scalar without a match is text.
PLAIN: tuple[tuple[str, tuple[re.Pattern[str], Callable[[str], Any]]], ...] = (
    ("null", (NULL, lambda _: None)),
    ("bool", (TRUE, lambda _: True)),
    ("bool", (FALSE, lambda _: False)),
    ("int", (WHOLE, _whole)),
    ("int", (HEXADECIMAL, _hexadecimal)),
    ("float", (REAL, _real)),
    ("float", (INFINITE, _infinite)),
    ("float", (NOT_A_NUMBER, lambda _: float("nan"))),
    ("float", (WHOLE, _real)),  # only with the tag !!float
)
KINDS = frozenset(kind for kind, _ in PLAIN)
