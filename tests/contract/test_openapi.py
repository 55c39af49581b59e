"""`/openapi.json`, generated from our routes and classes, against the contract's YAML: every operation, every schema, every
named response. Only what is marked `x-paddock-extension` may go beyond it.

Not compared: `info`, `servers`, the list of `tags` with its `x-tagGroups`, and `security`, in which the contract describes
another server (its title, its host, its APIs that are not experimental).
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.watch import CONTRACT
from paddock import wiring
from paddock.server.app import create_app
from paddock.settings import Settings

METHODS = ("get", "post", "delete", "put", "patch")
OPERATIONS = [(path, method) for path, item in CONTRACT["paths"].items() for method in METHODS if method in item]
SOURCE = Path(__file__).parents[2] / "src" / "paddock"


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
    """What a schema means: the order of `required` says nothing."""
    if isinstance(node, dict):
        node = {key: _normal(value, in_properties=key == "properties") for key, value in node.items()}
        if not in_properties and isinstance(node.get("required"), list):
            node["required"] = sorted(node["required"])
        return node
    if isinstance(node, list):
        return [_normal(item) for item in node]
    return node


def operation_differences(document: dict[str, Any], path: str, method: str) -> list[str]:
    """Where an operation differs from the contract's. The order of parameters says nothing."""
    theirs = copy.deepcopy(CONTRACT["paths"][path][method])
    mine = without_extensions(copy.deepcopy(document["paths"].get(path, {}).get(method, {})))
    for operation in (theirs, mine):
        operation.get("parameters", []).sort(key=lambda parameter: parameter["name"])
    return list(differences(_normal(theirs), _normal(mine), f"{method} {path}"))


def component_differences(document: dict[str, Any], kind: str, name: str) -> list[str]:
    """Where a schema or a named response differs from the contract's."""
    theirs = CONTRACT["components"][kind][name]
    mine = without_extensions(document["components"].get(kind, {}).get(name, {}))
    return list(differences(_normal(theirs), _normal(mine), f"{kind}/{name}"))


def all_differences(document: dict[str, Any]) -> list[str]:
    """Every difference from the contract."""
    found = [line for path, method in OPERATIONS for line in operation_differences(document, path, method)]
    for kind, components in CONTRACT["components"].items():
        found += [line for name in components for line in component_differences(document, kind, name)]
    return found


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operation(ours: dict[str, Any], path: str, method: str) -> None:
    assert operation_differences(ours, path, method) == []


@pytest.mark.parametrize("name", sorted(CONTRACT["components"]["schemas"]))
def test_schema(ours: dict[str, Any], name: str) -> None:
    assert component_differences(ours, "schemas", name) == []


@pytest.mark.parametrize("name", sorted(CONTRACT["components"]["responses"]))
def test_named_response(ours: dict[str, Any], name: str) -> None:
    assert component_differences(ours, "responses", name) == []


def test_all_of_the_contract_is_compared() -> None:
    assert set(CONTRACT["components"]) == {"schemas", "responses"}
    assert set(CONTRACT) == {"openapi", "info", "servers", "paths", "components", "tags", "x-tagGroups", "security"}
    assert {method for item in CONTRACT["paths"].values() for method in item} <= set(METHODS)
    assert (len(OPERATIONS), len(CONTRACT["paths"]), len(CONTRACT["components"]["schemas"])) == (18, 17, 55)


def test_what_goes_beyond_the_contract_says_so(ours: dict[str, Any]) -> None:
    unmarked = [
        f"{method} {path}"
        for path, item in ours["paths"].items()
        for method, operation in item.items()
        if (path, method) not in OPERATIONS and not operation.get("x-paddock-extension")
    ]
    assert unmarked == []


def test_the_package_never_reads_the_contract() -> None:
    assert [path for path in SOURCE.rglob("*.py") if "llama-stack-experimental" in path.read_text()] == []


# ---------------------------------------------------------------------------------------------------- sensitivity

EDITS = {
    "a field gone": (
        "post_training/schemas.py",
        "    packed: bool | None = False\n",
        "",
        "schemas/DataConfig/properties/packed: missing",
    ),
    "a default changed": (
        "post_training/schemas.py",
        "max_steps_per_epoch: int = 1\n",
        "max_steps_per_epoch: int = -1\n",
        "schemas/TrainingConfig/properties/max_steps_per_epoch/default: -1",
    ),
    "a route renamed": (
        "inference/routes.py",
        '"/v1alpha/inference/rerank"',
        '"/v1alpha/inference/ranking"',
        "post /v1alpha/inference/rerank/operationId: missing",
    ),
    "another method": (
        "evaluation/routes.py",
        '@_eval.delete(f"{_BENCHMARK}/jobs',
        '@_eval.put(f"{_BENCHMARK}/jobs',
        "delete /v1alpha/eval/benchmarks/{benchmark_id}/jobs/{job_id}/operationId: missing",
    ),
    "an operation renamed": (
        "inference/routes.py",
        "async def rerank(",
        "async def rank(",
        "post /v1alpha/inference/rerank/operationId: 'rank_",
    ),
    "a name in an enumeration": (
        "post_training/schemas.py",
        'IPO = "ipo"',
        'IPO = "ipo2"',
        "schemas/DPOLossType/enum/2",
    ),
    "an optional field": (
        "evaluation/schemas.py",
        "    judge_model: str\n",
        '    judge_model: str = ""\n',
        "schemas/LLMAsJudgeScoringFnParams/required: missing",
    ),
    "a type": (
        "inference/schemas.py",
        "max_num_results: int | None",
        "max_num_results: float | None",
        "schemas/RerankRequest/properties/max_num_results/anyOf/0/type: 'number'",
    ),
    "a title": (
        "evaluation/schemas.py",
        'Field(default=None, title="URL")',
        'Field(default=None, title="Address")',
        "schemas/_URLOrData/properties/url/title: 'Address'",
    ),
    "a description": (
        "datasets/schemas.py",
        '"""A dataset stored in rows."""',
        '"""Rows."""',
        "schemas/RowsDataSource/description: 'Rows.'",
    ),
    "a bound": ("evaluation/schemas.py", "top_k: int = Field(ge=1)", "top_k: int", "top_k/minimum: missing"),
    "a union that is told apart": (
        "datasets/schemas.py",
        'Field(discriminator="type", title=',
        "Field(title=",
        "schemas/Dataset/properties/source/discriminator: missing",
    ),
    "an extension without its mark": (
        "post_training/schemas.py",
        'description="Of weights, order and dropout.", json_schema_extra=_EXTENSION',
        'description="Of weights, order and dropout."',
        "schemas/TrainingConfig/properties/seed: added",
    ),
    "a parameter renamed": (
        "datasets/routes.py",
        "    start_index: int | None = None,",
        "    start: int | None = None,",
        "get /v1beta/datasetio/iterrows/{dataset_id}/parameters/2/name: 'start'",
    ),
    "a parameter that need not be": (
        "post_training/routes.py",
        "job_uuid: JobUuid) -> PostTrainingJobStatusResponse",
        "job_uuid: JobUuid = '') -> PostTrainingJobStatusResponse",
        "get /v1alpha/post-training/job/status/parameters/0/required: False",
    ),
    "a status code": (
        "server/openapi.py",
        '"429": (\n',
        '"430": (\n',
        "get /v1beta/datasets/responses/429: missing",
    ),
    "a named response": (
        "server/openapi.py",
        "Please try again later.",
        "Try again.",
        "responses/TooManyRequests429/content/application/json/example/detail",
    ),
    "what an answer is": (
        "post_training/routes.py",
        'response_description="A ListPostTrainingJobsResponse."',
        'response_description="Jobs."',
        "get /v1alpha/post-training/jobs/responses/200/description: 'Jobs.'",
    ),
    "a tag": (
        "post_training/routes.py",
        'routing.router("Post Training")',
        'routing.router("Training")',
        "get /v1alpha/post-training/jobs/tags/0: 'Training'",
    ),
}
"""What is changed in our sources, and the difference that must be seen: (file, text, what it becomes, difference)."""

_NO_EDIT = ["nothing changed", "errors.py", "PaddockError", "PaddockError"]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Edit → the document that is generated from the sources with it."""
    folder = tmp_path_factory.mktemp("documents")
    edits = [_NO_EDIT, *([name, *edit[:3]] for name, edit in EDITS.items())]
    command = [sys.executable, str(Path(__file__).with_name("edited_documents.py")), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    subprocess.run(command, input=json.dumps(edits), text=True, env=environment, check=True, timeout=120)
    return {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}


def test_unedited_sources_make_the_same_document(edited: dict[str, Any], ours: dict[str, Any]) -> None:
    assert edited["nothing changed"] == ours


@pytest.mark.parametrize("name", EDITS)
def test_a_change_of_the_sources_is_seen(edited: dict[str, Any], name: str) -> None:
    *_, difference = EDITS[name]
    found = all_differences(edited[name])
    assert any(difference in line for line in found), found
