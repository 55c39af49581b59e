"""What may be registered, by clients and by the configuration."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from paddock.egress import Egress
from paddock.errors import ConflictError, InvalidRequestError
from paddock.inference import registration
from paddock.inference.engine import Model
from paddock.inference.inference import Inference
from paddock.inference.local import LocalEngine
from paddock.inference.remote import RemoteEngine
from paddock.inference.schemas import RegisterModelRequest
from paddock.inference.store import ModelStore
from paddock.settings import Provider, RemoteConfig, Settings
from paddock.storage.database import Database


@pytest.fixture
def settings(tiny_llama: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", model_roots=(tiny_llama.parent,), hub_models=("org/*",))


@pytest.fixture
def inference(settings: Settings, database: Database, tmp_path: Path) -> Inference:
    lab = Provider(
        provider_id="lab", provider_type="remote::openai", config=RemoteConfig(base_url="http://127.0.0.1:9")
    )
    engines = {"local": LocalEngine(tmp_path / "engine.sock", tmp_path, Egress(())), "lab": RemoteEngine(lab)}
    return Inference(settings, ModelStore(database), engines)


def register(inference: Inference, settings: Settings, **fields: Any) -> Model:
    return registration.register(inference, settings, RegisterModelRequest(**fields))


def test_a_remote_model(inference: Inference, settings: Settings) -> None:
    model = register(inference, settings, model_id="judge", provider_id="lab", metadata={"a": 1})
    assert model == Model("judge", "lab", "judge", "llm", {"a": 1})
    assert inference.find("judge") == model


def test_a_local_folder_and_a_hub_id(inference: Inference, settings: Settings, tiny_llama: Path) -> None:
    folder = register(inference, settings, model_id="tiny", provider_model_id=str(tiny_llama))
    assert folder == Model("tiny", "local", str(tiny_llama))
    hub = register(inference, settings, model_id="ranker", provider_model_id="org/ranker", model_type="rerank")
    assert hub == Model("ranker", "local", "org/ranker", "rerank")


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"provider_id": "nobody"}, "/provider_id", "there are local, lab"),
        ({"provider_model_id": "/etc"}, "/provider_model_id", "model_roots"),
        ({"provider_model_id": "elsewhere/model"}, "/provider_model_id", "hub_models"),
        ({}, "/provider_model_id", "hub_models"),
    ],
)
def test_what_is_refused(
    inference: Inference, settings: Settings, fields: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        register(inference, settings, model_id="mine", **fields)
    assert caught.value.errors[0].pointer == pointer
    assert inference.models.list() == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_local_reranker_may_name_its_precision(inference: Inference, settings: Settings, precision: str) -> None:
    fields = {"model_id": "org/ranker", "model_type": "rerank", "metadata": {"precision": precision}}
    model = register(inference, settings, **fields)
    assert inference.engine(model)._files(model).precision == precision  # type: ignore[attr-defined]  # a LocalEngine
    for wrong in ({"metadata": {"precision": "fp8"}}, {"metadata": {"precision": 16}}, {"model_type": "llm"}):
        with pytest.raises(InvalidRequestError) as caught:
            register(inference, settings, **fields | {"model_id": "org/other"} | wrong)
        assert caught.value.errors[0].pointer == "/metadata/precision"
    remote = register(inference, settings, model_id="x", provider_id="lab", metadata={"precision": "theirs"})
    assert remote.metadata == {"precision": "theirs"}


def test_a_folder_without_a_model_is_refused(inference: Inference, settings: Settings, tiny_llama: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no config.json") as caught:
        register(inference, settings, model_id="mine", provider_model_id=str(tiny_llama.parent))
    assert caught.value.errors[0].pointer == "/provider_model_id"


def test_the_configuration_may_name_any_folder(inference: Inference, tmp_path: Path, tiny_llama: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(tiny_llama)
    entry = {"model_id": "small", "provider_id": "local", "provider_model_id": str(link), "model_type": "llm"}
    assert registration.register_entry(inference, entry) == Model("small", "local", str(link))
    assert registration.register_entry(inference, entry) == Model("small", "local", str(link))
    changed = entry | {"metadata": {"released": datetime.date(2024, 1, 31)}}
    with pytest.raises(ConflictError):
        registration.register_entry(inference, changed)
    replaced = registration.register_entry(inference, changed, replace=True)
    assert replaced.metadata == {"released": "2024-01-31"}
    assert registration.register_entry(inference, changed) == replaced


@pytest.mark.parametrize(
    ("entry", "pointer"),
    [
        ({"provider_id": "lab"}, "/model_id"),
        ({"model_id": "a", "provider_id": "lab", "model_type": "poem"}, "/model_type"),
        ({"model_id": "../a", "provider_id": "lab"}, "/model_id"),
        ({"model_id": "a", "provider_id": "nobody"}, "/provider_id"),
        ({"model_id": "a", "provider_model_id": "/nowhere"}, "/provider_model_id"),
    ],
)
def test_an_entry_that_cannot_be_used(inference: Inference, entry: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        registration.register_entry(inference, entry)
    assert caught.value.errors[0].pointer == pointer
