"""What a scoring function is, and what it sees of a row. The functions themselves are the files beside this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paddock.evaluation.schemas import (
    AggregationFunctionType,
    BasicScoringFnParams,
    LLMAsJudgeScoringFnParams,
    RegexParserScoringFnParams,
)
from paddock.inference.engine import Sampling

Params = BasicScoringFnParams | RegexParserScoringFnParams | LLMAsJudgeScoringFnParams

Score = dict[str, Any]
"""A score row: `score`, a number or a text, and whatever else the function has to say. In a row that could not be
scored it is null, and `error` says why."""

GREEDY = Sampling(temperature=0.0)


class Ask(Protocol):
    """How a function asks its judge."""

    async def __call__(self, prompt: str, sampling: Sampling = GREEDY) -> str:
        """The judge's reply. Raises `CannotScoreError`."""
        ...

    async def similarities(self, text: str, others: Sequence[str]) -> list[float]:
        """How alike a text and each of the others are, by the embedding model. Raises `CannotScoreError`."""
        ...


@dataclass(frozen=True)
class Sample:
    """A row with the answer that a model gave, in the words of the judge's placeholders."""

    input_query: str | None
    expected_answer: str | None
    generated_answer: str
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row itself, for functions that read columns of their own."""
    log_likelihoods: Sequence[float] | None = None
    """Of the row's choices, where these were compared, in nats."""


class CannotScoreError(Exception):
    """This row has no score, for a reason that is not the answer's quality. `extras` go into the score row."""

    def __init__(self, reason: str, **extras: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.extras = extras


@dataclass(frozen=True)
class Scorer:
    """A scoring function made ready with its parameters. Its `score` is called with a sample that has an expected
    answer, if it needs one, and may raise `CannotScoreError`."""

    score: Callable[[Sample, Ask], Awaitable[Score]]
    needs_expected_answer: bool
    columns: tuple[str, ...] = ()
    """What a row must have besides, to be taken on at all."""


@dataclass(frozen=True)
class ScoringFunction:
    """One kind of scoring."""

    description: str
    return_type: str
    defaults: Params
    """What it runs with where nothing else is said; its class is the class of parameters that the function takes."""
    prepare: Callable[[Any, str], Scorer]
    """Parameters (of the class of `defaults`, complete) and their JSON pointer → what scores with them. Raises
    `InvalidRequestError`."""
    asks_judge: bool = True
    """Whether one with a judge's parameters asks it."""
    by_likelihood: bool = False
    """Whether it compares the likelihoods of a row's choices instead of reading an answer."""


def completed(params: Params, defaults: Params) -> Params:
    """`params`, with the defaults, of the same class, where they say nothing: a field that is absent, null or an empty
    list."""
    assert type(params) is type(defaults)
    given = {name: getattr(params, name) for name in type(defaults).model_fields}
    return defaults.model_copy(update={name: value for name, value in given.items() if value not in (None, [])})


def replies(score: Score) -> list[str]:
    """All that a judge said about a score row, in the order in which it was asked."""
    if "judge_replies" in score:
        return list(score["judge_replies"])
    if "verdicts" in score:
        return [verdict["judge_feedback"] for verdict in score["verdicts"]]
    return [score["judge_feedback"]] if "judge_feedback" in score else []


def aggregations(params: Params) -> list[AggregationFunctionType]:
    """The aggregation functions that parameters ask for, each once."""
    return list(dict.fromkeys(params.aggregation_functions))
