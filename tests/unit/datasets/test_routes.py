from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from paddock.datasets.schemas import Dataset, ListDatasetsResponse, PaginatedResponse
from paddock.datasets.store import DatasetStore
from paddock.jobs.job import NewJob
from paddock.jobs.store import JobStore
from row_texts import ROWS

DATASETS, ITERROWS, APPEND = "/v1beta/datasets", "/v1beta/datasetio/iterrows/", "/v1beta/datasetio/append-rows/"
JSON = {"Content-Type": "application/json"}
EXACT = f'{{"question":1.10, "answer":-0.0,"big":{2**70},"huge":1e400,"long":{"7" * 5000},"a":1,"a":2}}'


def _register(client: TestClient, dataset_id: str, rows: list[str], **more: Any) -> httpx.Response:
    fields = json.dumps({"dataset_id": dataset_id, "purpose": "eval/question-answer"} | more)[1:]
    body = f'{{"source":{{"type":"rows","rows":[{",".join(rows)}]}},{fields}'
    return client.post(DATASETS, content=body.encode(), headers=JSON)


def _append(client: TestClient, dataset_id: str, rows: list[str], **headers: str) -> httpx.Response:
    body = f'{{"rows":[{",".join(rows)}]}}'.encode()
    return client.post(APPEND + dataset_id, content=body, headers=JSON | headers)


def _numbered(num_rows: int) -> list[str]:
    return [f'{{"question":"q","answer":{i}}}' for i in range(num_rows)]


def _answers(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [row["answer"] for row in PaginatedResponse.model_validate(response.json()).data]


def test_rows_come_back_as_they_went_in(client: TestClient) -> None:
    registered = _register(client, "d", [EXACT])
    assert registered.status_code == 200, registered.text
    assert _append(client, "d", [EXACT, '{"b" : "\\u00e9é"}']).content == b"null"
    page = client.get(ITERROWS + "d")
    assert page.text == f'{{"data":[{EXACT},{EXACT},{{"b" : "\\u00e9é"}}],"has_more":false,"url":null}}'
    assert page.headers["content-type"] == "application/json"
    for shown in (registered.text, client.get(f"{DATASETS}/d").text, client.get(DATASETS).text):
        assert f'"rows":[{EXACT}' in shown


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=ROWS)
def test_any_row_comes_back_as_it_went_in(client: TestClient, row: str) -> None:
    client.delete(f"{DATASETS}/d")
    assert _register(client, "d", [row]).status_code == 200
    assert _append(client, "d", [row]).status_code == 200
    assert client.get(ITERROWS + "d").text == f'{{"data":[{row},{row}],"has_more":false,"url":null}}'


def test_a_dataset_is_shown_with_its_first_rows_and_counts(client: TestClient) -> None:
    metadata = {"num_rows": "mine", "owner": "me"}
    _register(client, "team/d 1?", [*_numbered(150), '{"question":1}'], metadata=metadata)
    _append(client, "team/d%201%3F", ['{"question":2}'])
    shown = client.get(f"{DATASETS}/team%2Fd%201%3F")
    dataset = Dataset.model_validate(shown.json())
    assert (dataset.identifier, dataset.provider_resource_id, dataset.provider_id) == (
        "team/d 1?",
        "team/d 1?",
        "paddock",
    )
    assert shown.json()["source"] == {"type": "rows", "rows": [json.loads(row) for row in _numbered(100)]}
    assert dataset.metadata.items() >= {"owner": "me", "num_rows": 152, "num_incomplete_rows": 2}.items()
    assert dataset.metadata["first_incomplete_row"] == 150
    (listed,) = ListDatasetsResponse.model_validate(client.get(DATASETS).json()).data
    assert listed.model_dump()["source"] == {"type": "rows", "rows": [json.loads(_numbered(1)[0])]}
    assert listed.metadata == dataset.metadata


def test_metadata_keeps_its_digits(client: TestClient) -> None:
    body = (
        b'{"purpose":"eval/question-answer","dataset_id":"d","metadata":{"x":1.10, "x y":1e400},"source":{"rows":[]}}'
    )
    assert (
        b'"metadata":{"x":1.10,"x y":1e400,"num_rows":0,' in client.post(DATASETS, content=body, headers=JSON).content
    )


def test_large_rows_are_not_shown(client: TestClient) -> None:
    _register(client, "d", ['{"a":"' + "x" * 70_000 + '"}'])
    assert client.get(f"{DATASETS}/d").json()["source"]["rows"] == []
    assert client.get(DATASETS).json()["data"][0]["source"]["rows"] == []


@pytest.mark.parametrize(
    ("query", "first", "num_rows", "url"),
    [
        ("", 0, 2500, None),
        ("?limit=-1", 0, 2500, None),
        ("?start_index=2400", 2400, 100, None),
        ("?start_index=10&limit=5", 10, 5, "/v1beta/datasetio/iterrows/a/b?start_index=15&limit=5"),
        ("?limit=1200", 0, 1200, "/v1beta/datasetio/iterrows/a/b?start_index=1200&limit=1200"),
        ("?start_index=2490&limit=10", 2490, 10, None),
        ("?start_index=2490&limit=99999999999999999999999", 2490, 10, None),
        ("?start_index=2500", 0, 0, None),
        ("?start_index=99999999999999999999999&limit=3", 0, 0, None),
        ("?limit=0", 0, 0, None),
    ],
)
def test_pages(client: TestClient, query: str, first: int, num_rows: int, url: str | None) -> None:
    _register(client, "a/b", _numbered(2500))
    page = client.get(ITERROWS + "a/b" + query)
    assert _answers(page) == list(range(first, first + num_rows))
    assert page.json()["url"] == url
    assert page.json()["has_more"] == (url is not None or query == "?limit=0")


@pytest.mark.parametrize("query", ["limit=-2", "start_index=-1", "limit=x", "start_index=1.5"])
def test_other_pages_are_refused(client: TestClient, query: str) -> None:
    _register(client, "d", [])
    answer = client.get(f"{ITERROWS}d?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, query.partition("=")[0])


def test_a_walk_by_url_sees_every_row_once_while_others_append(client: TestClient) -> None:
    _register(client, "d é", _numbered(7))
    url, answers = ITERROWS + "d%20%C3%A9?limit=3", []
    while url is not None:
        page = client.get(url)
        answers += _answers(page)
        url = page.json()["url"]
        if len(answers) == 3:
            _append(client, "d%20%C3%A9", _numbered(9)[7:])
    assert answers == list(range(9))


def test_a_long_stream_gives_the_rows_that_there_were_at_its_start(client: TestClient, datasets: DatasetStore) -> None:
    _register(client, "d", _numbered(2500))
    with client.stream("GET", ITERROWS + "d") as response:
        assert "content-length" not in response.headers
        _append(client, "d", _numbered(3))
        assert len(json.loads(response.read())["data"]) == 2500


def test_a_stream_that_fails_late_does_not_look_whole(app: FastAPI, datasets: DatasetStore) -> None:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        _register(client, "d", _numbered(2500))
        read, calls = datasets.rows._lot, []

        def failing(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 2:
                datasets.rows.sweep(datasets.get("d").generation)
            return read(*arguments)

        datasets.rows._lot = failing  # type: ignore[method-assign]
        body = client.get(ITERROWS + "d").text
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)


def test_unknown_datasets_are_404(client: TestClient) -> None:
    for answer in (
        client.get(ITERROWS + "x"),
        client.get(f"{DATASETS}/x"),
        client.delete(f"{DATASETS}/x"),
        _append(client, "x", ["{}"]),
    ):
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", '"\\ud800"', '"\x01"', "01", "[" * 200 + "]" * 200])
def test_an_append_with_a_wrong_row_adds_nothing(client: TestClient, value: str) -> None:
    _register(client, "d", [])
    assert _append(client, "d", ['{"a":1}', f'{{"a":{value}}}']).status_code == 400
    assert client.get(ITERROWS + "d").json()["data"] == []


def test_a_repeated_append_with_its_key_is_done_once(client: TestClient) -> None:
    _register(client, "d", [])
    for _ in range(3):
        assert _append(client, "d", _numbered(2), **{"Idempotency-Key": "k"}).content == b"null"
    assert _answers(client.get(ITERROWS + "d")) == [0, 1]
    conflict = _append(client, "d", _numbered(3), **{"Idempotency-Key": "k"})
    assert (conflict.status_code, conflict.headers["x-should-retry"]) == (409, "false")
    assert _append(client, "d", _numbered(1), **{"Idempotency-Key": "k" * 256}).status_code == 400


def test_registering(client: TestClient) -> None:
    first = _register(client, "d", _numbered(2), provider_id="huggingface")
    assert first.headers["Paddock-Ignored-Fields"] == "/provider_id"
    assert _register(client, "d", _numbered(2)).json() == first.json()
    conflict = _register(client, "d", _numbered(3))
    assert (conflict.status_code, conflict.headers["x-should-retry"]) == (409, "false")
    assert client.get(f"{DATASETS}/d").json() == first.json()
    body = {"purpose": "post-training/messages", "source": {"type": "rows", "rows": []}}
    generated = {client.post(DATASETS, json=body).json()["identifier"] for _ in range(2)}
    assert len(generated) == 2


def test_a_uri_dataset_grows_too(client: TestClient, root: Path) -> None:
    (root / "exam.csv").write_text("question,answer\nq,0\n")
    uri = (root / "exam.csv").as_uri()
    body = {"dataset_id": "d", "purpose": "eval/question-answer", "source": {"type": "uri", "uri": uri}}
    assert client.post(DATASETS, json=body).json()["source"] == {"type": "uri", "uri": uri}
    _append(client, "d", ['{"answer":1.10}'])
    assert client.get(ITERROWS + "d").text.startswith('{"data":[{"question":"q","answer":"0"},{"answer":1.10}]')
    assert client.get(f"{DATASETS}/d").json()["metadata"]["first_incomplete_row"] == 1
    refused = client.post(DATASETS, json=body | {"source": {"type": "uri", "uri": "file:///etc/passwd"}})
    assert refused.status_code == 409
    outside = client.post(DATASETS, json=body | {"dataset_id": "e", "source": {"uri": "file:///etc/passwd"}})
    assert (outside.status_code, outside.json()["errors"][0]["pointer"]) == (400, "/source/uri")


def test_nan_of_a_typed_source_is_counted(client: TestClient, root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"question": [float("nan"), 1.0], "answer": [1, 2]}), root / "exam.parquet")
    source = {"type": "uri", "uri": (root / "exam.parquet").as_uri()}
    dataset = client.post(DATASETS, json={"purpose": "eval/question-answer", "source": source}).json()
    assert dataset["metadata"].items() >= {"num_rows": 2, "num_nan_values": 1, "num_incomplete_rows": 1}.items()


def test_removing(client: TestClient, datasets: DatasetStore, jobs: JobStore) -> None:
    _register(client, "a/b", _numbered(1))
    jobs.submit(NewJob("j", "eval", {}, reads=(datasets.version(datasets.get("a/b")),)))
    assert client.delete(f"{DATASETS}/a/b").status_code == 409
    jobs.cancel("j")
    assert client.delete(f"{DATASETS}/a/b").content == b"null"
    assert client.get(f"{DATASETS}/a/b").status_code == 404


def test_the_operations_bear_the_contracts_names(app: FastAPI) -> None:
    app.openapi_schema = None
    paths = app.openapi()["paths"]
    assert {operation["operationId"] for path in paths.values() for operation in path.values()} >= {
        "append_rows_v1beta_datasetio_append_rows__dataset_id__post",
        "iterrows_v1beta_datasetio_iterrows__dataset_id__get",
        "list_datasets_v1beta_datasets_get",
        "get_dataset_v1beta_datasets__dataset_id__get",
    }
    assert paths[APPEND + "{dataset_id}"]["post"]["responses"]["200"]["content"] == {"application/json": {"schema": {}}}
    assert all("Idempotency" not in json.dumps(path) for path in paths.values())
