"""`docs/contract.md` says what is beyond the contract: no more and no less than `/openapi.json` marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from contract.edited_documents import document
from contract.watch import CONTRACT

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
OPERATIONS = {operation["operationId"]: operation for item in CONTRACT["paths"].values() for operation in item.values()}
ROWS = {
    found[1]: (found[2], found[3]) for found in re.finditer(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
}


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return document()


def _name(operation_id: str) -> str:
    return re.split(r"_v1(?:alpha|beta)_", operation_id)[0]


def _schemas(node: Any, components: dict[str, Any], found: set[str]) -> set[str]:
    """The schemas that an operation uses, and those that they use."""
    if isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name and name not in found and name in components:
            found.add(name)
            _schemas(components[name], components, found)
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _schemas(item, components, found)
    return found


def _extension_fields(operation: dict[str, Any], components: dict[str, Any]) -> set[str]:
    used = _schemas({"body": operation.get("requestBody"), "ok": operation["responses"]["200"]}, components, set())
    return {
        f"{schema}.{field}"
        for schema in used
        for field, value in components[schema].get("properties", {}).items()
        if value.get("x-paddock-extension")
    }


def test_each_operation_has_a_row() -> None:
    assert list(ROWS)
    assert {_name(operation_id) for operation_id in OPERATIONS} == set(ROWS)


def test_the_fields_are_those_that_are_marked(ours: dict[str, Any]) -> None:
    components = ours["components"]["schemas"]
    for item in ours["paths"].values():
        for operation in item.values():
            if operation["operationId"] in OPERATIONS:
                name = _name(operation["operationId"])
                told = set(re.findall(r"`(\w+\.\w+)`", ROWS[name][0]))
                for other in re.findall(r"those of `(\w+)`", ROWS[name][0]):
                    told |= set(re.findall(r"`(\w+\.\w+)`", ROWS[other][0]))
                assert told == _extension_fields(operation, components), name


def test_the_routes_are_those_that_are_marked(ours: dict[str, Any]) -> None:
    marked = {
        f"{method.upper()} {path}"
        for path, item in ours["paths"].items()
        for method, operation in item.items()
        if operation.get("x-paddock-extension")
    }
    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", PAGE, re.MULTILINE)) == marked
