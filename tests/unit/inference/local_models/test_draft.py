"""Tokens as text: pieces that are certain, stop sequences that never show, half characters, log-probabilities."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from paddock.inference.engine import ChosenToken, Sampling
from paddock.inference.engine_messages import ChatRequest, CompletionRequest, GenerationAnswer, LocalModel
from paddock.inference.local_models.draft import Calling, Draft
from paddock.inference.local_models.generate import Choice
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Pieces, Work
from paddock.inference.local_models.tool_calls import form_of

MODEL = LocalModel("tiny", "/nowhere")
FILES = ModelFiles(Path("/nowhere"), {}, None)
END = frozenset({1})


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


def told(
    tokenizer: Any, ids: list[int], *, stop: tuple[str, ...] = (), prompt: str | None = None, template: str = ""
) -> tuple[list[str], GenerationAnswer]:
    """What a reader gets of an answer, token by token, and the whole."""
    sampling = Sampling(stop=stop, num_likely=0)
    request = ChatRequest(MODEL, [], sampling) if prompt is None else CompletionRequest(MODEL, prompt, sampling)
    work = Work(request, FILES, Pieces(lambda: None))
    assert work.pieces is not None
    form = form_of(template)
    prompt_ids = tokenizer(prompt or "x")["input_ids"]
    draft = Draft(work, tokenizer, prompt_ids, END, None if form is None else Calling(form))
    texts: list[str] = []
    tokens: list[ChosenToken] = []
    choices: list[Choice] = []
    for number in range(1, len(ids) + 1):
        choices.append(Choice(ids[number - 1], -float(number), []))
        is_last = number == len(ids) or ids[number - 1] in END or draft.is_stopped(ids[:number])
        if is_last:
            draft.finish(ids[:number], choices, "stop")
        else:
            draft.extend(ids[:number], choices)
        if (piece := work.pieces.take()) is not None:
            texts.append(piece.text)
            tokens += piece.tokens
        if is_last:
            break
    answer = work.answer.result(timeout=0)
    assert isinstance(answer, GenerationAnswer)
    assert answer.tokens is not None
    assert list(answer.tokens[: len(tokens)]) == tokens
    return texts, answer


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def test_half_a_character_waits_for_its_other_bytes(tokenizer: Any) -> None:
    texts, answer = told(tokenizer, encode(tokenizer, "a€ü!"))
    assert texts == ["a", "€", "ü", "!"]
    assert answer.text == "a€ü!"


def test_what_may_become_a_stop_sequence_waits(tokenizer: Any) -> None:
    ids = encode(tokenizer, "one. END of END. two")
    texts, answer = told(tokenizer, ids, stop=("END.",))
    assert "".join(texts) == answer.text == "one. END of "
    assert all("END " in text for text in texts if "E" in text)


@pytest.mark.parametrize("prompt", [None, "before ", "€"[:1]])
def test_pieces_are_the_whole_whatever_the_bytes(tokenizer: Any, prompt: str | None) -> None:
    """Random bytes, most of them no text at all, with stops of a byte or two."""
    draw = random.Random(0)
    for _ in range(60):
        ids = [draw.randrange(5, 261) for _ in range(40)] + [1]
        ids[20:24] = encode(tokenizer, draw.choice(["€x", "abcd", "üü"]))
        stop = tuple(draw.sample(["€", "cd", "ü", "zz", "ab"], 2))
        texts, answer = told(tokenizer, ids, stop=stop, prompt=prompt)
        assert "".join(texts) == answer.text
        assert not any(sequence in answer.text for sequence in stop)


def test_tokens_are_told_with_their_bytes_and_without_the_end(tokenizer: Any) -> None:
    _, answer = told(tokenizer, [*encode(tokenizer, "a€"), 1])
    assert answer.tokens == (
        ChosenToken("a", -1.0, [97]),
        ChosenToken("\N{REPLACEMENT CHARACTER}", -2.0, [0xE2]),
        ChosenToken("\N{REPLACEMENT CHARACTER}", -3.0, [0x82]),
        ChosenToken("\N{REPLACEMENT CHARACTER}", -4.0, [0xAC]),
    )
    assert answer.num_generated_tokens == 5


def test_a_call_is_no_text(tokenizer: Any) -> None:
    """It is held back from where it may begin; what only looks like one is told in the end."""
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    template = "{{ tools }} <tool_call>"
    texts, answer = told(tokenizer, encode(tokenizer, f"Let me see < 3.{call}"), template=template)
    assert "".join(texts) == answer.text == "Let me see < 3."
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [("add", '{"a": 1}')]
    assert answer.finish_reason == "tool_calls"
    texts, answer = told(tokenizer, encode(tokenizer, "So <tool_call>\n{no JSON"), template=template)
    assert "".join(texts) == answer.text == "So <tool_call>\n{no JSON"
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")
