"""Models over HTTP, with the official clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from llama_stack_client import LlamaStackClient
from openai import OpenAI

from app_server import AppServer
from inference_world import make_app, remote_engine
from paddock.inference.engine import Model
from paddock.settings import Settings
from paddock.storage.database import Database

JUDGE = {"model_id": "meta/judge", "provider_id": "lab", "provider_model_id": "judge-1", "metadata": {"size": 7}}


@pytest.fixture
def server(settings: Settings, database: Database, tiny_llama: Path) -> Iterator[AppServer]:
    settings = settings.model_copy(update={"model_roots": (tiny_llama.parent,)})
    app = make_app(settings, database, {"local": remote_engine(""), "lab": remote_engine("")})
    app.state.inference.models.register(Model("run:epoch-1", "local", "run/1", job_id="run", base_model="org/base"))
    with AppServer(app) as server:
        yield server


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
def test_a_models_life_with_the_llama_stack_client(server: AppServer, tiny_llama: Path) -> None:
    client = LlamaStackClient(base_url=server.url)
    registered = client.models.register(
        model_id="tiny", provider_id="local", provider_model_id=str(tiny_llama), model_type="llm", metadata={"a": "b"}
    )
    assert (registered.identifier, registered.provider_id, registered.provider_resource_id) == (
        "tiny", "local", str(tiny_llama),
    )  # fmt: skip
    assert (registered.api_model_type, registered.metadata) == ("llm", {"a": "b"})
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"tiny", "run:epoch-1"}
    assert listed["tiny"].custom_metadata == {
        "a": "b", "model_type": "llm", "provider_id": "local", "provider_resource_id": str(tiny_llama),
    }  # fmt: skip
    assert listed["tiny"].owned_by == "local"
    assert listed["tiny"].created > 1_700_000_000
    assert listed["run:epoch-1"].custom_metadata is not None
    assert listed["run:epoch-1"].custom_metadata["job_id"] == "run"
    assert client.models.retrieve("tiny").provider_resource_id == str(tiny_llama)
    client.models.unregister("tiny")
    assert [model.id for model in client.models.list()] == ["run:epoch-1"]


def test_openais_client_lists_and_retrieves(server: AppServer) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["run:epoch-1"]
    assert client.models.retrieve("run:epoch-1").object == "model"


def test_hub_ids_that_the_settings_name_are_listed(settings: Settings, database: Database) -> None:
    """A pattern names none, and a checkpoint or a registered model stands for itself."""
    settings = settings.model_copy(update={"hub_models": ("org/one", "org/*", "run", "org/two")})
    app = make_app(settings, database, {"local": remote_engine(""), "lab": remote_engine("")})
    app.state.inference.models.register(Model("run", "lab", "run-1"))
    listed = {model["id"]: model for model in TestClient(app).get("/v1/models").json()["data"]}
    assert set(listed) == {"run", "org/one", "org/two"}
    assert (listed["run"]["provider_id"], listed["org/one"]["provider_resource_id"]) == ("lab", "org/one")


def test_codes(settings: Settings, database: Database) -> None:
    app = make_app(settings, database, {"local": remote_engine(""), "lab": remote_engine("")})
    app.state.inference.models.register(Model("run:epoch-1", "local", "run/1", job_id="run"))
    client = TestClient(app)
    assert client.post("/v1/models", json=JUDGE).status_code == 200
    assert client.post("/v1/models", json=JUDGE).status_code == 200
    conflict = client.post("/v1/models", json=JUDGE | {"provider_model_id": "judge-2"})
    assert (conflict.status_code, conflict.headers["x-should-retry"]) == (409, "false")
    for path in ("/v1/models/meta/judge", "/v1/models/meta%2Fjudge"):
        assert client.get(path).json()["provider_resource_id"] == "judge-1"
    unknown = client.post("/v1/models", json=JUDGE | {"provider_id": "nobody"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (400, "/provider_id")
    assert client.get("/v1/models/other").status_code == 404
    assert client.delete("/v1/models/other").status_code == 404
    assert client.delete("/v1/models/run:epoch-1").status_code == 409
    assert client.delete("/v1/models/meta/judge").status_code == 200
    assert client.get("/v1/models/meta/judge").status_code == 404
