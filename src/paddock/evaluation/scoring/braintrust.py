"""`braintrust::*`: the measures of the package autoevals (Braintrust's, partly after RAGAS), by a judge model of one's own.

autoevals makes the prompts and computes the scores; what it asks goes through our inference, at temperature 0 unless set. It
wants a function called: the judge is told to reply with that function's arguments as JSON. Embeddings it wants only to
compare two texts, which an embedding model does here as a reranker (the score of a bi-encoder is a cosine).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from paddock.errors import InvalidRequestError
from paddock.evaluation.schemas import AggregationFunctionType, LLMAsJudgeScoringFnParams
from paddock.evaluation.scoring import killable
from paddock.evaluation.scoring.function import Ask, CannotScoreError, Sample, Score, Scorer, ScoringFunction
from paddock.inference.engine import Sampling

_UNUSED = ("prompt_template", "judge_score_regexes", "num_repeats", "score_range", "pairwise")

_CALL = """{prompt}

Answer by calling the function `{name}`: reply with nothing but a JSON object of its arguments. They follow this JSON schema:
{schema}"""


@dataclass(frozen=True)
class Measure:
    """One of autoevals' classes, and what it needs: `context` from the row, a judge, or texts compared with `anchor`, one of
    `input` and `expected`."""

    evaluator: str
    description: str
    needs_expected: bool
    needs_context: bool = False
    asks_judge: bool = True
    anchor: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


MEASURES: dict[str, Measure] = {
    "braintrust::factuality": Measure(
        "Factuality", "How far the generated answer agrees in fact with the expected one.", needs_expected=True
    ),
    "braintrust::answer-correctness": Measure(
        "AnswerCorrectness",
        "How correct the generated answer is: its statements, and its likeness to the expected one.",
        needs_expected=True,
        anchor="expected",
    ),
    "braintrust::answer-relevancy": Measure(
        "AnswerRelevancy",
        "How well the question can be told from the generated answer.",
        needs_expected=False,
        needs_context=True,
        anchor="input",
        # At temperature 0 the questions that it has made up would all be the same.
        options={"strictness": 1},
    ),
    "braintrust::answer-similarity": Measure(
        "AnswerSimilarity",
        "How like the generated answer is to the expected one.",
        needs_expected=True,
        asks_judge=False,
        anchor="expected",
    ),
    "braintrust::faithfulness": Measure(
        "Faithfulness",
        "The share of the answer's statements that the context bears out.",
        needs_expected=False,
        needs_context=True,
    ),
    "braintrust::context-entity-recall": Measure(
        "ContextEntityRecall",
        "How many of the expected answer's entities are in the context.",
        needs_expected=True,
        needs_context=True,
        anchor="pairs",
    ),
    "braintrust::context-precision": Measure(
        "ContextPrecision", "Whether the context helps to answer.", needs_expected=True, needs_context=True
    ),
    "braintrust::context-recall": Measure(
        "ContextRecall",
        "The share of the expected answer that the context bears out.",
        needs_expected=True,
        needs_context=True,
    ),
    "braintrust::context-relevancy": Measure(
        "ContextRelevancy",
        "The share of the context that is about the question.",
        needs_expected=False,
        needs_context=True,
    ),
}


@dataclass
class _Client:
    """What autoevals takes for OpenAI's client, for one row: its calls go to the judge, and all replies are kept."""

    ask: Ask
    sampling: Sampling
    anchor: str
    replies: list[str] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    error: Exception | None = None
    """What kept a call from its answer: no matter of autoevals'."""

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    def __post_init__(self) -> None:
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._complete))
        self.responses = SimpleNamespace(create=self._complete)
        self.embeddings = SimpleNamespace(create=self._embed)
        self.moderations = SimpleNamespace(create=None)

    async def _complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], **_: Any
    ) -> dict[str, Any]:
        (tool,) = tools
        prompt = "\n\n".join(message["content"] for message in messages)
        name, schema = tool["function"]["name"], json.dumps(tool["function"]["parameters"], ensure_ascii=False)
        self.replies.append("")
        position = len(self.replies) - 1
        with self._noted():
            reply = await self.ask(_CALL.format(prompt=prompt, name=name, schema=schema), self.sampling)
            self.replies[position] = reply
            arguments = json.dumps(_arguments(reply))
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}

    async def _embed(self, input: str, **_: Any) -> dict[str, Any]:
        """A vector of which only the angle to that of the anchor is meant: nothing else is ever compared with it."""
        cosine = 1.0 if input == self.anchor else await self.cosine(self.anchor, input)
        return {"data": [{"embedding": [cosine, math.sqrt(max(0.0, 1 - cosine * cosine))]}]}

    async def cosine(self, text: str, other: str) -> float:
        """How alike two texts are."""
        with self._noted():
            (found,) = await self.ask.similarities(text, [other])
        cosine = min(max(found, -1.0), 1.0)
        self.similarities.append(cosine)
        return cosine

    def kept(self) -> Score:
        """What the score row keeps of it, so that the row can be scored again without a model."""
        kept: Score = {"judge_replies": self.replies, "similarities": self.similarities}
        return {name: values for name, values in kept.items() if values}

    async def _run_eval_async(self, output: str, expected: str) -> Any:
        """As autoevals' scorer of a pair: it compares any two texts, not all with one anchor."""
        similarity = importlib.import_module("autoevals").EmbeddingSimilarity(client=self)
        cosine = await self.cosine(expected, output)
        return SimpleNamespace(score=similarity.scale_score(cosine, similarity.expected_min))


def _arguments(reply: str) -> Any:
    """The JSON object in a reply, whatever stands around it. Raises `CannotScoreError`."""
    start = reply.find("{")
    if start < 0:
        raise CannotScoreError("The judge did not reply with JSON.")
    try:
        found, _ = json.JSONDecoder().raw_decode(reply, start)
    except (ValueError, RecursionError):
        raise CannotScoreError("The judge did not reply with JSON.") from None
    # Some write the whole call.
    inner = found.get("arguments", found.get("parameters"))
    return inner if isinstance(inner, dict) else found


async def _evaluated(measure: Measure, sample: Sample, client: _Client) -> Any:
    """autoevals' result. Raises `CannotScoreError`."""
    # Its libraries take a second to load, which is no time of the event loop's.
    autoevals = await asyncio.to_thread(importlib.import_module, "autoevals")
    await asyncio.to_thread(importlib.import_module, "openai")
    options: dict[str, Any] = {"client": client, **measure.options}
    if measure.asks_judge:
        options["model"] = "judge"
    if measure.anchor == "pairs":
        options["pairwise_scorer"] = client
    context = sample.row.get("context") if measure.needs_context else None
    try:
        evaluator = getattr(autoevals, measure.evaluator)(**options)
        return await evaluator.eval_async(
            output=sample.generated_answer, expected=sample.expected_answer, input=sample.input_query, context=context
        )
    except Exception as error:
        if error is client.error:
            raise
        # autoevals reads a model's reply without looking: a key that is missing, a sum over nothing.
        raise CannotScoreError(
            f"autoevals cannot make a score of the judge's reply ({type(error).__name__}: {str(error)[:200]})."
        ) from None
    finally:
        # It keeps every embedding for good, under the address of the client, which the next one may have.
        cache = autoevals.EmbeddingSimilarity._CACHE
        for key in [key for key in cache if key[3] == id(client)]:
            del cache[key]


def _prepare_as(function_id: str) -> Callable[[LLMAsJudgeScoringFnParams, str], Scorer]:
    measure = MEASURES[function_id]

    def prepare(params: LLMAsJudgeScoringFnParams, pointer: str) -> Scorer:
        killable.require(pointer, "autoevals", "openai", "scipy", extra="braintrust")
        _check(function_id, measure, params, pointer)
        sampling = Sampling(temperature=params.temperature or 0.0, seed=0 if params.temperature else None)

        async def score(sample: Sample, ask: Ask) -> Score:
            if sample.input_query is None:
                raise CannotScoreError("The judge is to see what was asked, and the row does not say.")
            context = sample.row.get("context")
            texts = context if isinstance(context, list) else [context]
            if measure.needs_context and not (texts and all(isinstance(text, str) and text for text in texts)):
                raise CannotScoreError("The row's `context` must be a text, or a list of texts.")
            anchor = sample.input_query if measure.anchor == "input" else sample.expected_answer
            client = _Client(ask, sampling, anchor or "")
            try:
                result = await _evaluated(measure, sample, client)
            except CannotScoreError as error:
                raise CannotScoreError(error.reason, **error.extras, **client.kept()) from None
            metadata = json.loads(json.dumps(result.metadata, default=lambda inner: inner.as_dict()))
            return {"score": float(result.score), "metadata": metadata, **client.kept()}

        columns = ("context",) if measure.needs_context else ()
        return Scorer(score, needs_expected_answer=measure.needs_expected, columns=columns)

    return prepare


def _check(function_id: str, measure: Measure, params: LLMAsJudgeScoringFnParams, pointer: str) -> None:
    """Raise `InvalidRequestError` for a parameter that would change nothing, and for a model that is missing."""
    for name in _UNUSED:
        if getattr(params, name) not in (None, []):
            raise InvalidRequestError(
                f"{function_id} has prompts and scores of its own, and `{name}` would change nothing: leave it out.",
                pointer=f"{pointer}/{name}",
            )
    if measure.anchor is not None and not params.embedding_model:
        raise InvalidRequestError(
            f"{function_id} compares texts: name a model that embeds them in `embedding_model`.", pointer=pointer
        )
    if measure.anchor is None and params.embedding_model:
        raise InvalidRequestError(
            f"{function_id} compares no texts by their embeddings: leave `embedding_model` out.",
            pointer=f"{pointer}/embedding_model",
        )


BRAINTRUST: dict[str, ScoringFunction] = {
    function_id: ScoringFunction(
        description=f"{measure.description} By autoevals, 0 to 1.",
        return_type="number",
        defaults=LLMAsJudgeScoringFnParams(judge_model="", aggregation_functions=[AggregationFunctionType.AVERAGE]),
        prepare=_prepare_as(function_id),
        asks_judge=measure.asks_judge,
    )
    for function_id, measure in MEASURES.items()
}
