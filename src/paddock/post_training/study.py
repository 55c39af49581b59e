"""Which trial comes next, and which has no hope: pure functions of a search's trials so far, by Optuna.

The study is built anew from the trials each time. The database holds nothing of Optuna's, a kill loses nothing of it, and
a search that is done again chooses the same trials.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import TrialState

from paddock import wire
from paddock.post_training.search_config import (
    MAX_GRID,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Params,
    Pruner,
    SearchConfig,
)
from paddock.post_training.trial_store import Trial

optuna.logging.set_verbosity(logging.WARNING)

_NUM_TRIES = 4
"""How often the sampler is asked for a trial that there was none like."""


def suggest(search: SearchConfig, trials: Sequence[Trial]) -> Params | None:
    """The parameters of the next trial, or None once each point of the space was tried: training the same again would
    say nothing new."""
    number = len(trials) + 1
    if search.sampler.type == "grid":
        points = _grid(search)
        random.Random(f"grid {search.sampler.seed}").shuffle(points)
        return points[number - 1] if number <= len(points) else None
    tried = {wire.to_json(trial.params) for trial in trials}
    study = _study_of(search, trials)
    distributions = _distributions(search)
    params: Params = {}
    for attempt in range(_NUM_TRIES):
        study.sampler = _sampler(search, f"{search.sampler.seed} {number} {attempt}")
        params = _params(search, study.ask(distributions).params)
        if wire.to_json(params) not in tried:
            return params
    if search.num_points > MAX_GRID:
        return params
    left = [point for point in _grid(search) if wire.to_json(point) not in tried]
    return random.Random(f"left {search.sampler.seed} {number}").choice(left) if left else None


def is_hopeless(pruner: Pruner, trials: Sequence[Trial], number: int, losses: Sequence[float]) -> bool:
    """Whether the trial `number`, whose validation losses after each epoch are `losses`, is to be ended for what the
    others had after as many epochs."""
    halving = SuccessiveHalvingPruner(min_resource=pruner.min_epochs, reduction_factor=pruner.reduction_factor)
    study = _empty_study(direction="minimize", pruner=halving)
    for trial in trials:
        if trial.number != number:
            _report(study.ask(), trial.losses)
    return _report(study.ask(), losses)


def _empty_study(**options: Any) -> Study:
    # The sampler of a study that trials are only put into.
    return optuna.create_study(sampler=RandomSampler(seed=0), **options)


def _study_of(search: SearchConfig, trials: Sequence[Trial]) -> Study:
    by_loss = search.objective == "validation_loss"
    study = _empty_study(direction="minimize" if by_loss else "maximize")
    distributions = _distributions(search)
    for trial in trials:
        study.enqueue_trial(_encoded(search, trial.params))
        asked = study.ask(distributions)
        if by_loss:
            _report(asked, trial.losses)
        if trial.status == "completed":
            study.tell(asked, trial.value)
        elif trial.status == "pruned":
            study.tell(asked, state=TrialState.PRUNED)
        elif trial.status == "failed":
            study.tell(asked, state=TrialState.FAIL)
        # One that runs stays so: what is asked next keeps away from it.
    return study


def _report(asked: optuna.Trial, losses: Sequence[float]) -> bool:
    """Give a trial its losses by epoch. Returns whether it should have ended at any of them."""
    hopeless = False
    for epoch, loss in enumerate(losses, 1):
        asked.report(loss, epoch)
        # Asked at each epoch: that is when Optuna takes note of a rung's value.
        hopeless = asked.should_prune() or hopeless
    return hopeless


def _sampler(search: SearchConfig, seed: str) -> BaseSampler:
    number = random.Random(seed).getrandbits(32)
    return TPESampler(seed=number) if search.sampler.type == "tpe" else RandomSampler(seed=number)


def _distributions(search: SearchConfig) -> dict[str, BaseDistribution]:
    return {pointer: _distribution(parameter) for pointer, parameter in search.parameters.items()}


def _distribution(parameter: FloatParameter | IntParameter | CategoricalParameter) -> BaseDistribution:
    if isinstance(parameter, FloatParameter):
        high = parameter.low + (parameter.num_values() - 1) * parameter.step if parameter.step else parameter.high
        return FloatDistribution(parameter.low, high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, IntParameter):
        high = parameter.low + (parameter.high - parameter.low) // parameter.step * parameter.step
        return IntDistribution(parameter.low, high, log=parameter.log, step=parameter.step)
    # By their places: a choice may be any JSON.
    return CategoricalDistribution(range(len(parameter.choices)))


def _params(search: SearchConfig, suggested: dict[str, Any]) -> Params:
    return {
        pointer: parameter.choices[suggested[pointer]]
        if isinstance(parameter, CategoricalParameter)
        else suggested[pointer]
        for pointer, parameter in search.parameters.items()
    }


def _encoded(search: SearchConfig, params: Params) -> dict[str, Any]:
    return {
        pointer: parameter.choices.index(params[pointer])
        if isinstance(parameter, CategoricalParameter)
        else params[pointer]
        for pointer, parameter in search.parameters.items()
    }


def _grid(search: SearchConfig) -> list[Params]:
    """Every point of a finite space."""
    parameters = search.parameters
    values = [_values(parameter) for parameter in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]


def _values(parameter: FloatParameter | IntParameter | CategoricalParameter) -> list[Any]:
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    count = parameter.num_values()
    assert math.isfinite(count)
    return [parameter.low + place * (parameter.step or 0) for place in range(int(count))]
