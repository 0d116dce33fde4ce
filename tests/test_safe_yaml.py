"""YAML of strangers against PyYAML's safe loader where both read, and one line in little time where ours refuses."""

import math
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from condinst.safe_yaml import DEEPEST, LARGEST_FILE, parse_yaml, read_yaml

PLAIN = """
text: a word
quoted: "12"
block: |
  two
  lines
numbers: [1, -2, +3, 0, 1_000, 0x1F, 1.5, .5, 2.e+3, 1.0e-4, .inf, -.inf]
truth: [yes, No, TRUE, off]
nothing: [~, null, ]
2: a whole number as key
nested: {a: {b: [{c: d}]}}
tagged: [!!str 12, !!int "7", !!float "3", !!bool "no", !!null ""]
=: an equals sign is text
"""


def test_plain_values_are_those_of_pyyaml() -> None:
    expected = yaml.safe_load(PLAIN.replace("=:", "'=':"))
    assert parse_yaml(PLAIN) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**90), 10**90) | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    """As `Config.to_yaml` and the YOLO writer write it; the key of a merge is the only exception."""
    text = yaml.safe_dump(value, allow_unicode=True)
    if "<<" not in text and "&id" not in text and yaml.safe_load(text) == value:  # not so for U+0085 alone
        assert parse_yaml(text) == value


WORDS = ("12:30", "1:2:3.5", "012", "0o14", "09", "2024-01-31", "2024-13-45", "1e5", "1.5e5", "-.5", "=")


@pytest.mark.parametrize("word", WORDS)
def test_text_that_pyyaml_would_change(word: str) -> None:
    assert parse_yaml(f"a: {word}") == {"a": word}


def test_nan() -> None:
    assert math.isnan(parse_yaml(".nan"))


REFUSED = [
    ("a: [1", "line 2: did not find expected"),
    ("a: 1\nb: &x 2\nc: *x", "line 3: aliases"),
    ("a: 1\n<<: {b: 2}", "line 2: merge keys"),
    ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
    ("a: 1\n? [b]\n: 2", "line 2: a list or a mapping is the key"),
    (
        "a: 1\nb: !!python/name:os.system x",
        "line 2: the tag tag:yaml.org,2002:python/name:os.system",
    ),
    ("a: !!timestamp 2024-01-01", "line 1: the tag"),
    ("a: !!binary aGk=", "line 1: the tag"),
    ("a: !!set {b}", "line 1: the tag"),
    ("a: !!int 1:30", "line 1: '1:30' is no value of the tag"),
    ("a: !!bool z", "line 1: 'z' is no value of the tag"),
    ("a: b\n--- c", "line 2: a second document"),
    ("a: 1\nb: \0", "line 2: the character '.x00' is not allowed"),
    ('a: "\\ud800"', "line 1: "),
    ("a: 1\n" + "b" * 20 + ": " + "9" * 101, "line 2: a number of more than 100 digits"),
    ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "line 1: nested too deeply"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=[line[:30] for _, line in REFUSED])
def test_refused_in_one_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        parse_yaml(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


BOMBS = {
    "lists": "[" * 10**6,
    "mappings": "{" * 10**6,
    "dashes": "- " * 500_000,
    "keys": "? " * 500_000,
    "anchors": "&a [" * 250_000,
    "values": "[" + "[]," * 330_000 + "]",
    "base 60": "x: " + "1:" * 450_000 + "1",
    "digits": "x: " + "1" * 900_000,
    "fraction": "x: 0." + "1" * 900_000,
    "text": '"' + "a\\n" * 300_000 + '"',
    "blank lines": "\n" * 10**6,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_megabyte_ends_soon(name: str) -> None:
    start = time.process_time()
    with suppress(ValueError):
        parse_yaml(BOMBS[name])
    assert time.process_time() - start < 8


def test_without_libyaml_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser written in C is not everywhere."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert parse_yaml(PLAIN) == yaml.safe_load(PLAIN.replace("=:", "'=':"))
    for text, line in REFUSED[1:]:
        with pytest.raises(ValueError, match=line.partition(":")[0]):
            parse_yaml(text)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes("\ufeffa: ä".encode())
    assert read_yaml(file) == {"a": "ä"}
    file.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        read_yaml(file)
    file.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_yaml(file)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "gone.yaml")
