"""Text in, text out: templates, limits, stops, seeds and adapters of a real tiny model, without the process around it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Sampling
from paddock.inference.engine_messages import ChatRequest, CompletionRequest, GenerationAnswer, LocalModel
from paddock.inference.local_models import language_model
from paddock.inference.local_models.language_model import LanguageModel, Weights
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Work
from tiny_models import make_adapter, make_llama, save_byte_tokenizer

MODEL = LocalModel("tiny", "/nowhere")


def load(folder: Path) -> LanguageModel:
    weights = Weights(folder, "cpu", torch.float32)
    return LanguageModel("tiny", weights, weights.variant(None))


@pytest.fixture(scope="module")
def tiny(tiny_llama: Path) -> LanguageModel:
    return load(tiny_llama)


def answer(model: LanguageModel, request: ChatRequest | CompletionRequest) -> GenerationAnswer:
    work = Work(request, ModelFiles(Path("/nowhere"), {}, None))
    model.generate([work], lambda _limit: [], max_rows=4)
    result = work.answer.result(timeout=0)
    assert isinstance(result, GenerationAnswer)
    return result


def complete(model: LanguageModel, prompt: str = "abc", **options: Any) -> GenerationAnswer:
    return answer(model, CompletionRequest(MODEL, prompt, Sampling(**options)))


def chat(model: LanguageModel, *turns: tuple[str, str], **options: Any) -> GenerationAnswer:
    messages = [{"role": role, "content": content} for role, content in turns]
    return answer(model, ChatRequest(MODEL, messages, Sampling(**options)))


def changed(tiny_llama: Path, folder: Path, file: str, **values: Any) -> Path:
    """A copy of the tiny model with other values in one of its JSON files."""
    shutil.copytree(tiny_llama, folder)
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))
    return folder


def test_a_chat_goes_through_the_template(tiny: LanguageModel) -> None:
    rendered = complete(tiny, "<|system|>be kind<|end|><|user|>hi<|end|><|assistant|>", max_tokens=12)
    chatted = chat(tiny, ("system", "be kind"), ("user", "hi"), max_tokens=12)
    assert (chatted.text, chatted.num_prompt_tokens) == (rendered.text, rendered.num_prompt_tokens)


def test_no_template_no_chat(tmp_path: Path, tiny_llama: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    save_byte_tokenizer(tmp_path / "base", chat_template=None)
    model = load(tmp_path / "base")
    with pytest.raises(InvalidRequestError, match="tiny has no chat template"):
        chat(model, ("user", "hi"))
    assert complete(model, max_tokens=2).num_generated_tokens == 2


def test_what_a_template_refuses_is_the_clients_to_mend(tmp_path: Path, tiny_llama: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('turns must alternate') }}")
    with pytest.raises(InvalidRequestError, match="turns must alternate"):
        chat(load(folder), ("user", "hi"))


def test_the_length_of_an_answer(tiny: LanguageModel, tmp_path: Path, tiny_llama: Path) -> None:
    assert complete(tiny, max_tokens=7).num_generated_tokens == 7
    talkative = changed(tiny_llama, tmp_path / "a", "generation_config.json", eos_token_id=None, max_new_tokens=9)
    assert complete(load(talkative)).num_generated_tokens == 9
    assert complete(load(talkative), max_tokens=4).num_generated_tokens == 4


def test_an_answer_ends_where_the_context_does(tiny: LanguageModel) -> None:
    end = complete(tiny, "x" * 508, max_tokens=100)
    assert (end.num_prompt_tokens, end.num_generated_tokens, end.finish_reason) == (508, 4, "length")
    with pytest.raises(InvalidRequestError, match="The prompt has 512 tokens"):
        complete(tiny, "x" * 512)


def test_an_empty_prompt_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        complete(tiny, "")


def test_text_is_cut_before_the_first_stop(tiny: LanguageModel) -> None:
    whole = complete(tiny, max_tokens=40)
    characters = [c for c in whole.text if c.isascii()]
    stop = next(c for c in characters[2:] if c != whole.text[0])
    cut = complete(tiny, max_tokens=40, stop=("never said", stop))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.num_generated_tokens < whole.num_generated_tokens


def test_a_special_token_can_be_a_stop(tmp_path: Path, tiny_llama: Path) -> None:
    """It never shows in the text, so it is told by its id."""
    model = load(tiny_llama)
    with torch.no_grad():
        model._weights.model.lm_head.weight.zero_()
        model._weights.model.lm_head.weight[3] = 1.0  # <|user|>, or the lowest id if the sum is negative
    ended = complete(model, max_tokens=10, stop=("<|user|>", "<|pad|>"))
    assert (ended.finish_reason, ended.num_generated_tokens, ended.text) == ("stop", 1, "")
    assert complete(model, max_tokens=10).num_generated_tokens == 10


def test_seeds_repeat_and_differ(tiny: LanguageModel) -> None:
    first = complete(tiny, temperature=1.0, seed=1, max_tokens=20).text
    assert complete(tiny, temperature=1.0, seed=1, max_tokens=20).text == first
    assert complete(tiny, temperature=1.0, seed=2, max_tokens=20).text != first
    assert complete(tiny, temperature=1.0, max_tokens=20).text != complete(tiny, temperature=1.0, max_tokens=20).text


def test_knobs_reach_the_draw(tiny: LanguageModel) -> None:
    greedy = complete(tiny, max_tokens=20).text
    assert complete(tiny, temperature=1.0, top_k=1, max_tokens=20).text == greedy
    assert complete(tiny, temperature=1.0, top_p=1e-6, max_tokens=20).text == greedy
    assert complete(tiny, temperature=1e-9, max_tokens=20).text == greedy
    assert complete(tiny, repetition_penalty=5.0, max_tokens=20).text != greedy


def test_absent_knobs_are_the_models_own(tiny: LanguageModel, tmp_path: Path, tiny_llama: Path) -> None:
    careful = load(changed(tiny_llama, tmp_path / "a", "generation_config.json", top_k=1, do_sample=True))
    greedy = complete(tiny, max_tokens=20).text
    assert complete(careful, temperature=1.0, max_tokens=20).text == greedy
    assert complete(careful, temperature=1.0, top_k=200, seed=1, max_tokens=20).text != greedy


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path, tiny_llama: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack the weights model\.layers\.0\.mlp\.up_proj\.weight"):
        Weights(folder, "cpu", torch.float32)


def test_an_architecture_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, state_size=2)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="MambaForCausalLM is not supported"):
        Weights(tmp_path, "cpu", torch.float32)


def test_adapters_share_one_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "_MAX_VARIANTS", 3)
    base = make_llama(tmp_path / "base", seed=3)
    weights = Weights(base, "cpu", torch.float32)
    num_weights = sum(p.numel() for p in weights.model.parameters())
    # The same folder name under different jobs, as checkpoints have it.
    folders = [make_adapter(base, tmp_path / f"job-{i}" / "epoch-1", seed=i) for i in range(4)]

    def say(folder: Path | None) -> str:
        return complete(LanguageModel("tiny", weights, weights.variant(folder)), max_tokens=15).text

    plain = say(None)
    spoken = [say(folder) for folder in folders]
    assert len({plain, *spoken}) == 5
    # The third kept is over the bound; each is loaded again where it was let go, and says the same.
    assert [say(folder) for folder in folders] == spoken
    assert say(None) == plain
    num_of_one_adapter = 2 * 2 * (4 * 32 + 32 * 4)
    assert sum(p.numel() for p in weights.model.parameters()) <= num_weights + 3 * num_of_one_adapter


def test_an_adapter_written_anew_is_read_anew(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", seed=3)
    weights = Weights(base, "cpu", torch.float32)
    folder = make_adapter(base, tmp_path / "adapter", seed=0)
    before = complete(LanguageModel("tiny", weights, weights.variant(folder)), max_tokens=15).text
    make_adapter(base, folder, seed=1)
    assert complete(LanguageModel("tiny", weights, weights.variant(folder)), max_tokens=15).text != before
