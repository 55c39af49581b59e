"""`/openapi.json`, generated from our routes and classes, against the contract's YAML, operation by operation and schema
by schema. Only what is marked `x-paddock-extension` may go beyond it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddock import wiring
from paddock.server.app import create_app
from paddock.settings import Settings

CONTRACT = yaml.safe_load((Path(__file__).parent / "llama-stack-experimental.yaml").read_text())
METHODS = ("get", "post", "delete", "put", "patch")
OPERATIONS = [(path, method) for path, item in CONTRACT["paths"].items() for method in METHODS if method in item]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    resources = wiring.build(Settings(data_dir=tmp_path_factory.mktemp("data")))
    document: dict[str, Any] = create_app(resources, wake_worker=lambda: None).openapi()
    resources.database.close()
    return document


def without_extensions(node: Any) -> Any:
    """The document without what is marked as ours."""
    if isinstance(node, dict):
        return {key: without_extensions(value) for key, value in node.items() if not _is_extension(value)}
    if isinstance(node, list):
        return [without_extensions(item) for item in node if not _is_extension(item)]
    return node


def _is_extension(node: Any) -> bool:
    return isinstance(node, dict) and node.get("x-paddock-extension") is True


def differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Where two JSON documents differ, one line each."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            if key not in ours:
                yield f"{place}/{key}: missing, the contract has {theirs[key]!r:.100}"
            elif key not in theirs:
                yield f"{place}/{key}: added {ours[key]!r:.100}"
            else:
                yield from differences(theirs[key], ours[key], f"{place}/{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(a, b, f"{place}/{index}")
    elif theirs != ours or isinstance(theirs, bool) != isinstance(ours, bool):
        yield f"{place}: {ours!r:.120}, the contract has {theirs!r:.120}"


def _normal(node: Any, *, in_properties: bool = False) -> Any:
    """What a schema means: the order of `required` and of parameters says nothing, nor do FastAPI's own summaries."""
    if isinstance(node, dict):
        node = {key: _normal(value, in_properties=key == "properties") for key, value in node.items()}
        if not in_properties and isinstance(node.get("required"), list):
            node["required"] = sorted(node["required"])
        return node
    if isinstance(node, list):
        return [_normal(item) for item in node]
    return node


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operation(ours: dict[str, Any], path: str, method: str) -> None:
    theirs = copy.deepcopy(CONTRACT["paths"][path][method])
    mine = without_extensions(copy.deepcopy(ours["paths"].get(path, {}).get(method, {})))
    for operation in (theirs, mine):
        operation.get("parameters", []).sort(key=lambda parameter: parameter["name"])
        for parameter in operation.get("parameters", []):
            # A title is FastAPI's own; the contract has it on some path parameters and a description on others.
            parameter.get("schema", {}).pop("title", None)
            parameter.pop("description", None)
        operation["tags"] = [tag.replace(" ", "") for tag in operation.get("tags", [])]
    assert list(differences(_normal(theirs), _normal(mine))) == []


@pytest.mark.parametrize("name", sorted(CONTRACT["components"]["schemas"]))
def test_schema(ours: dict[str, Any], name: str) -> None:
    theirs = CONTRACT["components"]["schemas"][name]
    mine = ours["components"]["schemas"].get(name)
    assert mine is not None, f"no class makes the schema {name}"
    assert list(differences(_normal(theirs), _normal(without_extensions(mine)))) == []


def test_what_goes_beyond_the_contract_says_so(ours: dict[str, Any]) -> None:
    unmarked = [
        f"{method} {path}"
        for path, item in ours["paths"].items()
        for method, operation in item.items()
        if (path, method) not in OPERATIONS and not operation.get("x-paddock-extension")
    ]
    assert unmarked == []


def test_the_package_never_reads_the_contract() -> None:
    package = Path(__file__).parents[2] / "src" / "paddock"
    assert [path for path in package.rglob("*.py") if "llama-stack-experimental" in path.read_text()] == []


def test_a_difference_is_seen(ours: dict[str, Any]) -> None:
    """The comparison's own sensitivity: a field gone, a default changed, a route renamed."""
    changed = copy.deepcopy(CONTRACT)
    del changed["components"]["schemas"]["Job"]["properties"]["status"]
    changed["components"]["schemas"]["TrainingConfig"]["properties"]["dtype"]["default"] = "fp32"
    changed["paths"]["/renamed"] = changed["paths"].pop("/v1beta/datasets")
    found = "\n".join(differences(CONTRACT, changed))
    assert all(place in found for place in ("Job/properties/status", "dtype/default", "/renamed", "/v1beta/datasets:"))
