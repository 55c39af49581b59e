"""JSON objects on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from paddock.cli.json_values import json_object, laid_over


def test_in_place_or_from_a_file(tmp_path: Path) -> None:
    assert json_object(' {"a": [1, null]}') == {"a": [1, None]}
    for name, text in (("a.json", '{"a": {"b": 2}}'), ("a.yaml", "a:\n  b: 2\n")):
        (tmp_path / name).write_text(text)
        assert json_object(str(tmp_path / name)) == {"a": {"b": 2}}


@pytest.mark.parametrize("value", ['{"a": }', "{", "no-such-file", "LIST", "BROKEN", "BYTES"])
def test_what_is_no_object_is_refused_in_words(value: str, tmp_path: Path) -> None:
    for name, content in (("LIST", b"[1]"), ("BROKEN", b"a: [1"), ("BYTES", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
    value = str(tmp_path / value) if value.isupper() else value
    with pytest.raises(click.BadParameter) as caught:
        json_object(value)
    assert value in caught.value.message


def test_what_stands_above_counts_at_every_depth() -> None:
    below = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert laid_over(below, {"a": {"c": {"d": 4}, "f": 5}, "e": {"g": 6}}) == {
        "a": {"b": 1, "c": {"d": 4}, "f": 5}, "e": {"g": 6},
    }  # fmt: skip
    assert below == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
