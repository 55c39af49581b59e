"""The schema of `hyperparam_search_config`: a space over fields of the request, and how it is searched.

The contract takes any object there. What is in it is ours, and a key that nothing reads is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paddock.post_training.trial_store import Trial

DEFAULT_TRIALS = 20
MAX_TRIALS = 1000
MAX_GRID = 100_000

Params = dict[str, Any]
"""JSON pointer into the request → value."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FloatParameter(_Section):
    """A number between `low` and `high`, both included; `log`: sampled by its logarithm; `step`: only every so many."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_range(self) -> FloatParameter:
        _check_range(self.low, self.high, self.log, has_step=self.step is not None)
        return self

    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def num_values(self) -> float:
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1


class IntParameter(_Section):
    """A whole number between `low` and `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _is_range(self) -> IntParameter:
        _check_range(self.low, self.high, self.log, has_step=self.step != 1)
        return self

    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def num_values(self) -> float:
        return (self.high - self.low) // self.step + 1


class CategoricalParameter(_Section):
    """One of `choices`, which may be any JSON."""

    type: Literal["categorical"]
    choices: list[Any] = Field(min_length=1)

    @model_validator(mode="after")
    def _are_different(self) -> CategoricalParameter:
        if any(choice in self.choices[:place] for place, choice in enumerate(self.choices)):
            raise ValueError("choices must differ from each other")
        return self

    def ends(self) -> tuple[Any, ...]:
        return tuple(self.choices)

    def num_values(self) -> float:
        return len(self.choices)


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


class Sampler(_Section):
    """How the next trial is chosen, a pure function of `seed` and the trials so far."""

    type: Literal["tpe", "random", "grid"] = "tpe"
    seed: int = Field(default=0, ge=0, lt=2**63)


class Pruner(_Section):
    """Trials whose validation loss is not among the best 1 / `reduction_factor` after `min_epochs` epochs, and after each
    `reduction_factor` times as many, are ended."""

    type: Literal["successive_halving"] = "successive_halving"
    min_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2)


class BenchmarkObjective(_Section):
    """The score of each trial's last checkpoint on a benchmark, which is to be as high as possible."""

    benchmark_id: str
    scoring_function: str
    aggregation: str
    num_examples: int | None = Field(default=None, ge=1)


class SearchConfig(_Section):
    """What `hyperparam_search_config` holds."""

    space: dict[str, Parameter] = Field(min_length=1)
    num_trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    num_parallel_trials: int = Field(default=1, ge=1, le=64)
    sampler: Sampler = Sampler()
    pruning: Pruner | None = None
    objective: Literal["validation_loss"] | BenchmarkObjective = "validation_loss"

    @property
    def parameters(self) -> dict[str, FloatParameter | IntParameter | CategoricalParameter]:
        """JSON pointer → parameter, in the request's order."""
        return {pointer_of(name): parameter for name, parameter in self.space.items()}

    @property
    def num_points(self) -> float:
        """How many different trials there are; infinite where a number varies freely."""
        return math.prod(parameter.num_values() for parameter in self.space.values())

    @property
    def total(self) -> int:
        """How many trials are made at most: as asked, or 20, or each point of a grid; none twice."""
        default = self.num_points if self.sampler.type == "grid" else DEFAULT_TRIALS
        return int(min(self.num_trials or default, self.num_points))

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The completed trial with the best value, the first of equals."""
        completed = [trial for trial in trials if trial.value is not None]
        sign = 1 if self.objective == "validation_loss" else -1
        return min(completed, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _check_range(low: float, high: float, log: bool, *, has_step: bool) -> None:
    if low > high:
        raise ValueError("low must not be greater than high")
    if log and low <= 0:
        raise ValueError("low must be greater than 0 where log is true")
    if log and has_step:
        raise ValueError("log and step exclude each other")


def pointer_of(name: str) -> str:
    """The field that a key of `space` names: a JSON pointer, or names with dots between them."""
    return name if name.startswith("/") else "/" + name.replace(".", "/")
