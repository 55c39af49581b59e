"""`braintrust::*` beside autoevals itself: the same replies of a judge, as JSON here and there as OpenAI's tool
calls, come to the same score."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import autoevals
import pytest

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock.errors import InvalidRequestError
from paddock.evaluation import answer, bundle
from paddock.evaluation.rescore import rescore
from paddock.evaluation.schemas import LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring.braintrust import BRAINTRUST, MEASURES
from paddock.evaluation.scoring.function import GREEDY, CannotScoreError, Sample, Score, completed
from paddock.inference.engine import Sampling
from scoring_references import documented_cases

TEXTS = ["Paris is the capital.", "It has two million people.", "The river is the Seine.", "Lyon is smaller.", "No."]


class Judge:
    """Whom our function asks: it replies with what `arguments` are for the function that is named in the prompt."""

    def __init__(self, reply: Callable[[str], str], cosine: Callable[[str, str], float]) -> None:
        self.reply = reply
        self.cosine = cosine
        self.asked: list[tuple[str, Sampling]] = []

    async def __call__(self, prompt: str, sampling: Sampling = GREEDY) -> str:
        self.asked.append((prompt, sampling))
        return self.reply(prompt.rpartition("Answer by calling the function `")[2].partition("`")[0])

    async def similarities(self, text: str, others: Sequence[str]) -> list[float]:
        return [self.cosine(text, other) for other in others]


def scored(function_id: str, sample: Sample, judge: Judge, **params: Any) -> Score:
    measure = MEASURES[function_id]
    if measure.anchor is not None:
        params.setdefault("embedding_model", "embedder")
    function = BRAINTRUST[function_id]
    complete = completed(LLMAsJudgeScoringFnParams(judge_model="judge", **params), function.defaults)
    return asyncio.run(function.prepare(complete, "/params").score(sample, judge))


class OpenAI:
    """OpenAI's client as autoevals knows it, with embeddings of two dimensions."""

    def __init__(self, arguments: Callable[[str], Any], angle: Callable[[str], float]) -> None:
        async def complete(**request: Any) -> dict[str, Any]:
            name = request["tools"][0]["function"]["name"]
            call = {"function": {"name": name, "arguments": json.dumps(arguments(name))}}
            return {"choices": [{"message": {"tool_calls": [call]}}]}

        async def embed(**request: Any) -> dict[str, Any]:
            at = angle(request["input"])
            return {"data": [{"embedding": [math.cos(at), math.sin(at)]}]}

        self.chat = SimpleNamespace(completions=SimpleNamespace(create=complete))
        self.responses = SimpleNamespace(create=complete)
        self.embeddings = SimpleNamespace(create=embed)
        self.moderations = SimpleNamespace(create=None)


def replies(draw: random.Random, evaluator: str) -> Callable[[str], Any]:
    """What a judge says when it is asked to call a function."""

    def some() -> list[str]:
        return draw.sample(TEXTS, draw.randint(1, 3))

    attributed = [{"statement": text, "attributed": draw.randint(0, 1), "reason": "r"} for text in some()]
    known = {
        "select_choice": {"choice": draw.choice("ABCDE"), "reasons": "so"},
        "extract_sentences": {"sentences": [{"sentence": text, "reasons": ["r"]} for text in some()]},
        "extract_statements": {"statements": attributed if evaluator == "ContextRecall" else some()},
        "verify": {"verdict": draw.randint(0, 1), "reason": "r"},
        "classify_statements": {"TP": some(), "FP": some(), "FN": some()},
        "judge_statements": {"faithfulness": [{"statement": t, "verdict": draw.randint(0, 1)} for t in some()]},
        "generate_question": {"question": draw.choice(TEXTS), "noncommittal": int(draw.random() < 0.2)},
    }
    # Of the expected answer first, then of the context.
    entities = iter([{"entities": some()}, {"entities": some()}])
    return lambda name: next(entities) if name == "extract_entities" else known[name]


@pytest.mark.parametrize("function_id", BRAINTRUST)
def test_the_score_is_that_of_autoevals(function_id: str) -> None:
    num_cases = documented_cases()[function_id]
    outcomes = {_compared(function_id, random.Random(f"{function_id} {case}")) for case in range(num_cases)}
    assert len(outcomes) > 1


def _compared(function_id: str, draw: random.Random) -> float:
    measure = MEASURES[function_id]
    seed = draw.random()
    arguments = replies(random.Random(seed), measure.evaluator)
    angles = {text: draw.uniform(0, 0.9) for text in [*TEXTS, "What?"]}
    sample = Sample("What?", draw.choice(TEXTS), draw.choice(TEXTS), {"context": draw.sample(TEXTS, 2)})
    judge = Judge(lambda name: json.dumps(arguments(name)), lambda a, b: math.cos(angles[a] - angles[b]))
    ours = scored(function_id, sample, judge)
    assert autoevals.EmbeddingSimilarity._CACHE == {}
    assert all(sampling == GREEDY for _, sampling in judge.asked)
    assert bool(judge.asked) == measure.asks_judge
    model = {"model": "gpt-4o"} if measure.asks_judge else {}
    arguments = replies(random.Random(seed), measure.evaluator)
    reference = getattr(autoevals, measure.evaluator)(client=OpenAI(arguments, angles.__getitem__), **model)
    theirs = asyncio.run(
        reference.eval_async(
            output=sample.generated_answer,
            expected=sample.expected_answer,
            input=sample.input_query,
            context=sample.row["context"] if measure.needs_context else None,
        )
    )
    autoevals.EmbeddingSimilarity._CACHE.clear()
    assert ours["score"] == pytest.approx(theirs.score, abs=1e-9)
    return round(theirs.score, 6)


def test_llama_stacks_names_are_all_there() -> None:
    names = ["factuality", "answer-correctness", "answer-relevancy", "answer-similarity", "faithfulness"]
    names += [f"context-{what}" for what in ("entity-recall", "precision", "recall", "relevancy")]
    assert BRAINTRUST.keys() == {f"braintrust::{name}" for name in names}


SAMPLE = Sample("What?", "Paris", "Paris", {"context": "Paris it is."})
FACTUALITY = "braintrust::factuality"


@pytest.mark.parametrize(
    "reply",
    [
        '{"choice": "C", "reasons": "r"}',
        'Sure.\n```json\n{"choice": "C"}\n```',
        '{"name": "select_choice", "arguments": {"choice": "C"}}',
    ],
)
def test_a_reply_may_have_something_around_it(reply: str) -> None:
    found = scored(FACTUALITY, SAMPLE, Judge(lambda _: reply, lambda *_: 1.0))
    assert (found["score"], found["judge_replies"], found["metadata"]["choice"]) == (1.0, [reply], "C")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("C", "did not reply with JSON"),
        ('{"choice": ', "did not reply with JSON"),
        ('{"choice": "Z"}', "KeyError"),
        ('{"reasons": "none"}', "KeyError"),
    ],
)
def test_a_reply_that_says_nothing_is_a_failed_row_that_keeps_it(reply: str, reason: str) -> None:
    with pytest.raises(CannotScoreError, match=reason) as caught:
        scored(FACTUALITY, SAMPLE, Judge(lambda _: reply, lambda *_: 1.0))
    assert caught.value.extras == {"judge_replies": [reply]}


def test_a_row_without_a_context_or_a_question_fails() -> None:
    judge = Judge(lambda _: "{}", lambda *_: 1.0)
    for row in ({}, {"context": []}, {"context": [1]}, {"context": 7}):
        with pytest.raises(CannotScoreError, match="`context` must be"):
            scored("braintrust::faithfulness", Sample("q", None, "a", row), judge)
    with pytest.raises(CannotScoreError, match="what was asked"):
        scored(FACTUALITY, Sample(None, "e", "a"), judge)


@pytest.mark.parametrize(
    ("function_id", "params", "pointer"),
    [
        (FACTUALITY, {"prompt_template": "{generated_answer}"}, "/params/prompt_template"),
        (FACTUALITY, {"num_repeats": 2}, "/params/num_repeats"),
        (FACTUALITY, {"embedding_model": "m"}, "/params/embedding_model"),
        ("braintrust::answer-similarity", {"embedding_model": ""}, "/params"),
    ],
)
def test_parameters_that_change_nothing_or_are_missing(function_id: str, params: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        scored(function_id, SAMPLE, Judge(lambda _: "", lambda *_: 1.0), **params)
    assert caught.value.errors[0].pointer == pointer


def test_without_the_extra_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidRequestError, match=r"needs autoevals, openai, scipy.*paddock\[braintrust\]"):
        scored(FACTUALITY, SAMPLE, Judge(lambda _: "", lambda *_: 1.0))


def test_what_keeps_the_judge_from_answering_is_no_matter_of_the_reply() -> None:
    class AwayError(Exception):
        pass

    class Away(Judge):
        async def __call__(self, prompt: str, sampling: Sampling = GREEDY) -> str:
            raise AwayError

    with pytest.raises(AwayError):
        scored(FACTUALITY, SAMPLE, Away(lambda _: "", lambda *_: 1.0))


# ------------------------------------------------------------------------------------------------ in a job


def test_a_job_asks_any_judge_and_the_embedding_model(make_world: Callable[..., World], tmp_path: Path) -> None:
    from paddock.inference.engine import Model

    def reply(body: dict[str, Any]) -> str | dict[str, Any]:
        if "documents" in body:
            return {"results": [{"index": i, "relevance_score": 0.85} for i in range(len(body["documents"]))]}
        if body["model"] == "judge":
            assert body["temperature"] == 0
            assert "comparing a submitted answer" in last_user_text(body)
            return '{"choice": "B"}'
        return "an answer"

    world = make_world(reply)
    world.inference.models.register(Model("embedder", "lab", "embedder", "embedding"))
    world.add_dataset([{"question": "q", "answer": "a"}] * 3)
    world.add_benchmark(FACTUALITY, "braintrust::answer-similarity")
    params = {
        FACTUALITY: {"type": "llm_as_judge", "judge_model": "judge"},
        "braintrust::answer-similarity": {"type": "llm_as_judge", "judge_model": "", "embedding_model": "embedder"},
    }
    job = world.run(world.submit(candidate() | {"scoring_params": params}))
    scores = json.loads("".join(answer.stream(job, world.evaluation.results)))["scores"]
    assert [row["score"] for row in scores[FACTUALITY]["score_rows"]] == [0.6] * 3
    similar = [row["score"] for row in scores["braintrust::answer-similarity"]["score_rows"]]
    assert similar == [pytest.approx((0.85 - 0.7) / 0.3)] * 3
    file = tmp_path / "b.zip"
    file.write_bytes(b"".join(bundle.write(job, world.evaluation.results, world.datasets)))
    num_asked = len(world.server.requests)
    told = {name: result["aggregated_results"] for name, result in scores.items()}
    assert rescore(bundle.read(file)) == told
    assert len(world.server.requests) == num_asked
    for changes, pointer in (
        ({"embedding_model": "judge"}, "/scoring_params/braintrust::answer-similarity/embedding_model"),
        ({"judge_model": "judge"}, "/scoring_params/braintrust::answer-similarity/judge_model"),
    ):
        wrong = {**params, "braintrust::answer-similarity": params["braintrust::answer-similarity"] | changes}
        with pytest.raises(InvalidRequestError) as caught:
            world.submit(candidate() | {"scoring_params": wrong})
        assert caught.value.errors[0].pointer == pointer
