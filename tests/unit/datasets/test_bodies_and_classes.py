"""`bodies` reads by hand what carries rows: it takes and refuses what the schema classes would, in the same places."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from paddock import routing
from paddock.datasets import bodies
from paddock.datasets.bodies import Registration
from paddock.datasets.schemas import AppendRowsRequest, RegisterDatasetRequest
from paddock.errors import InvalidRequestError
from paddock.server import answers


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Routes that have FastAPI read the classes themselves."""
    app = FastAPI()
    router = routing.router()

    @router.post("/register")
    def register(body: RegisterDatasetRequest) -> dict[str, Any]:
        return body.model_dump(mode="json")

    @router.post("/append")
    def append(body: AppendRowsRequest) -> dict[str, Any]:
        return body.model_dump(mode="json")

    app.include_router(router)
    answers.install(app)
    with TestClient(app) as client:
        yield client


INTEGERS = st.integers(-(2**63), 2**63 - 1)  # beyond, what a field may hold depends on the field
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("aä/~.\x00 \U0001f600", max_size=4),
    st.lists(INTEGERS, max_size=2),
    st.dictionaries(st.sampled_from(["a", "rows", "type"]), INTEGERS, max_size=2),
)
ROWS = st.lists(st.dictionaries(st.text("ab", max_size=2), ANYTHING, max_size=2), max_size=3)
NEARLY_ROWS = st.lists(st.dictionaries(st.text("ab", max_size=1), INTEGERS, max_size=1) | ANYTHING, max_size=3)


def _texts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return values.map(lambda value: json.dumps(value, ensure_ascii=False))


def _objects(
    required: dict[str, st.SearchStrategy[str]], optional: dict[str, st.SearchStrategy[str]]
) -> st.SearchStrategy[str]:
    """The text of an object: its members in any order, some missing, of another type, unknown, or there twice."""
    right = st.fixed_dictionaries(required, optional=optional).map(lambda members: list(members.items()))
    names = st.sampled_from([*required, *optional, "unknown", ""])
    added = st.lists(st.tuples(names, _texts(ANYTHING)), max_size=1)
    num_missing = st.sampled_from([0, 0, 0, 0, 1])
    return (
        st.tuples(right, added, num_missing)
        .flatmap(lambda parts: st.permutations(parts[0][parts[2] :] + parts[1]))
        .map(lambda members: "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members) + "}")
    )


SOURCES = st.one_of(
    _objects({"type": st.just('"rows"'), "rows": _texts(ROWS | NEARLY_ROWS)}, {}),
    _objects({"type": st.just('"uri"'), "uri": st.just('"data:,"')}, {"rows": _texts(ROWS)}),
    _texts(ANYTHING),
)
REGISTRATIONS = _objects(
    {"purpose": _texts(st.sampled_from(["eval/question-answer", "post-training/messages"])), "source": SOURCES},
    {
        "dataset_id": _texts(st.just("a/b") | ANYTHING),
        "metadata": _texts(st.dictionaries(st.text(max_size=2), ANYTHING, max_size=2) | ANYTHING),
    },
)
APPENDS = _objects({"rows": _texts(ROWS | NEARLY_ROWS)}, {})


def _by_hand(read: Any) -> tuple[Any, set[str]]:
    try:
        return read(), set()
    except InvalidRequestError as error:
        return None, {found.pointer for found in error.errors}


def _by_class(client: TestClient, path: str, body: bytes) -> tuple[Any, set[str]]:
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    if response.status_code == 200:
        return response.json(), set()
    assert response.status_code == 400
    return None, {found["pointer"] for found in response.json()["errors"]}


def _agree(by_hand: set[str], by_class: set[str]) -> None:
    """Both take it or both refuse it, and what is refused by hand, the first things found, is refused by the class."""
    assert bool(by_hand) == bool(by_class), (by_hand, by_class)
    assert by_hand <= by_class


_SETTINGS = settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)


@_SETTINGS
@given(APPENDS)
def test_an_append_is_taken_as_its_class_takes_it(client: TestClient, body: str) -> None:
    texts, by_hand = _by_hand(lambda: bodies.parse_rows(body.encode(), "a"))
    value, by_class = _by_class(client, "/append", body.encode())
    _agree(by_hand, by_class)
    if not by_hand:
        assert [json.loads(text) for text in texts] == value["rows"]


@_SETTINGS
@given(REGISTRATIONS)
def test_a_registration_is_taken_as_its_class_takes_it(client: TestClient, body: str) -> None:
    source = json.loads(body).get("source")
    assume(not isinstance(source, dict) or "type" in source)  # without it what is in it decides, by hand alone
    registration, by_hand = _by_hand(lambda: bodies.parse_registration(body.encode()))
    value, by_class = _by_class(client, "/register", body.encode())
    _agree(by_hand, by_class)
    if not by_hand:
        assert isinstance(registration, Registration)
        assert (registration.dataset_id, registration.purpose) == (value["dataset_id"], value["purpose"])
        assert json.loads(registration.metadata_json) == (value["metadata"] or {})
        if value["source"]["type"] == "rows":
            assert [json.loads(text) for text in registration.texts] == value["source"]["rows"]
        else:
            assert registration.uri == value["source"]["uri"]
