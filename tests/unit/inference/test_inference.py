"""From a name to a model and its engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.egress import Egress
from paddock.errors import InvalidRequestError, NotFoundError
from paddock.inference.engine import Model
from paddock.inference.inference import Inference
from paddock.inference.local import LocalEngine
from paddock.inference.store import ModelStore
from paddock.settings import Settings
from paddock.storage.database import Database


@pytest.fixture
def inference(database: Database, tmp_path: Path) -> Inference:
    settings = Settings(model_roots=(tmp_path / "models",), hub_models=("org/*",))
    engine = LocalEngine(tmp_path / "engine.sock", tmp_path, Egress(()))
    return Inference(settings, ModelStore(database), {"local": engine})


def test_registered_models_come_first(inference: Inference, tmp_path: Path) -> None:
    model = Model("org/small", "local", str(tmp_path / "models" / "small"))
    inference.models.register(model)
    assert inference.find("org/small") == model


def test_what_the_settings_allow_needs_no_registration(inference: Inference, tmp_path: Path) -> None:
    assert inference.find("org/other") == Model("org/other", "local", "org/other")
    folder = str(tmp_path / "models" / "small")
    assert inference.find(folder) == Model(folder, "local", folder)


def test_nothing_else_is_found(inference: Inference, tmp_path: Path) -> None:
    for name in ("elsewhere/model", "judge", str(tmp_path / "secret"), str(tmp_path / "models" / ".." / "secret")):
        with pytest.raises(NotFoundError):
            inference.find(name)
        with pytest.raises(InvalidRequestError) as caught:
            inference.find_for(name, "/eval_candidate/model")
        assert caught.value.errors[0].pointer == "/eval_candidate/model"


def test_a_provider_that_left_the_configuration(inference: Inference) -> None:
    with pytest.raises(InvalidRequestError, match="provider lab, which is not configured"):
        inference.engine(Model("judge", "lab", "judge-1"))


def test_a_tokenizer_is_the_adapters_or_its_bases(inference: Inference, tmp_path: Path) -> None:
    base, adapter = tmp_path / "models" / "base", tmp_path / "run"
    for folder in (base, adapter):
        folder.mkdir(parents=True)
    inference.models.register(Model("tuned", "local", "run", job_id="job", base_model=str(base)))
    (base / "tokenizer.json").write_text("{}")
    assert inference.tokenizer_file("tuned") == base / "tokenizer.json"
    (adapter / "tokenizer.json").write_text("{}")
    assert inference.tokenizer_file("tuned") == adapter / "tokenizer.json"


def test_a_tokenizer_that_is_not_here_is_refused(inference: Inference, tmp_path: Path) -> None:
    # One of the hub that was never used is not fetched for this; one of nobody is unknown.
    for name, sentence in [
        ("org/other", "is not on this machine"),
        (str(tmp_path / "models" / "none"), "is not on this machine"),
        ("nobody/knows", "There is no model"),
    ]:
        with pytest.raises(InvalidRequestError, match=sentence) as caught:
            inference.tokenizer_file(name)
        assert caught.value.errors[0].pointer == "tokenizer"
