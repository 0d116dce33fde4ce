"""Keys that stand twice in one object of a JSON file."""

import pytest

from condinst.strict_json import RepeatedKeyError, parse_json


def test_values_are_those_of_json() -> None:
    assert parse_json('[{"a": [1, 2.5, null, true, "\\u00e4"]}, {}]') == [{"a": [1, 2.5, None, True, "ä"]}, {}]


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"c": {"a": {}, "a": {}}}]'])
def test_a_repeated_key_is_named(text: str) -> None:
    with pytest.raises(RepeatedKeyError, match="an object has the key 'a' twice"):
        parse_json(text)
