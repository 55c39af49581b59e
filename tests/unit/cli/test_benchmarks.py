"""`paddock benchmarks` against the real app."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

Invoke = Callable[..., Result]


def test_list_show_delete(invoke: Invoke, sums: str) -> None:
    assert "basic::equality" in invoke("benchmarks", "list").output
    assert json.loads(invoke("benchmarks", "show", sums).output)["dataset_id"] == sums
    assert json.loads(invoke("benchmarks", "list", "--json").output)["data"][0]["identifier"] == sums
    invoke("benchmarks", "delete", sums)
    assert sums in invoke("benchmarks", "show", sums, code=1).output


def test_metadata_is_kept(invoke: Invoke, sums: str) -> None:
    words = ("--dataset", sums, "--scoring", "basic::equality", "--metadata", '{"author": "me"}')
    invoke("benchmarks", "register", "b", *words)
    assert json.loads(invoke("benchmarks", "show", "b").output)["metadata"] == {"author": "me"}


def test_an_unknown_function_is_refused_by_its_place(invoke: Invoke, sums: str) -> None:
    output = invoke("benchmarks", "register", "b", "--dataset", sums, "--scoring", "basic::nope", code=1).output
    assert "/scoring_functions/0" in output
