"""What a search tries next, on landscapes of numbers: no training, the same code."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest

from paddock import wire
from paddock.post_training import study
from paddock.post_training.search_config import Params, Pruner, SearchConfig
from paddock.post_training.trial_store import Trial

LR, RANK, DROPOUT, OPTIMIZER = (
    "/training_config/optimizer_config/lr",
    "/algorithm_config/rank",
    "/algorithm_config/dropout",
    "/training_config/optimizer_config/optimizer_type",
)
GRID = {
    LR: [10 ** (exponent / 2) for exponent in range(-10, -1)],
    RANK: list(range(4, 65, 12)),
    DROPOUT: [0.0, 0.05, 0.1, 0.15, 0.2],
    OPTIMIZER: ["adam", "adamw", "sgd"],
}
SPACE: dict[str, Any] = {
    LR: {"type": "categorical", "choices": GRID[LR]},
    RANK: {"type": "int", "low": 4, "high": 64, "step": 12},
    DROPOUT: {"type": "float", "low": 0.0, "high": 0.2, "step": 0.05},
    OPTIMIZER: {"type": "categorical", "choices": GRID[OPTIMIZER]},
}
NUM_POINTS = 9 * 6 * 5 * 3


def _search(space: dict[str, Any] | None = None, **more: Any) -> SearchConfig:
    return SearchConfig.model_validate({"space": space or SPACE, "num_trials": 1000} | more)


def _trial(number: int, params: Params, **more: Any) -> Trial:
    return Trial(number, f"s:trial-{number}", params, **more)


class Landscape:
    """A bowl over the grid with its lowest point at a planted place; `optimizer_type` has a height of its own each."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.planted = {name: rng.choice(values) for name, values in GRID.items()}
        self._steepness = {name: rng.uniform(0.5, 2) for name in GRID}
        self._heights = {name: rng.uniform(0.3, 1) for name in GRID[OPTIMIZER]}

    def height(self, params: Params) -> float:
        total = 0.0
        for name, values in GRID.items():
            if name == OPTIMIZER:
                away = 0.0 if params[name] == self.planted[name] else self._heights[params[name]]
            else:
                # By place: the steps of a float parameter come with rounding.
                here = min(range(len(values)), key=lambda place: abs(values[place] - params[name]))
                away = ((here - values.index(self.planted[name])) / (len(values) - 1)) ** 2
            total += self._steepness[name] * away
        return total


def _trials_to_the_optimum(landscape: Landscape, search: SearchConfig) -> float:
    """Infinite where it takes more than are of interest."""
    trials: list[Trial] = []
    while len(trials) < 0.2 * NUM_POINTS:
        params = study.suggest(search, trials)
        assert params is not None
        height = landscape.height(params)
        trials.append(_trial(len(trials) + 1, params, status="completed", value=height, losses=(height,)))
        if height == 0.0:
            return len(trials)
    return math.inf


def test_the_planted_optimum_is_found_with_a_fraction_of_the_grid() -> None:
    """On 20 landscapes: the median of the trials that it takes, against all points of the grid."""
    shares = [
        _trials_to_the_optimum(Landscape(seed), _search(sampler={"type": "tpe", "seed": seed})) / NUM_POINTS
        for seed in range(20)
    ]
    print(f"share of the grid's {NUM_POINTS} trials: median {statistics.median(shares):.3f}, most {max(shares):.3f}")
    assert statistics.median(shares) <= 0.4


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_no_point_is_tried_twice_and_all_in_the_end(sampler: str) -> None:
    search = _search(
        {"a": {"type": "int", "low": 1, "high": 4}, "b": {"type": "categorical", "choices": ["x", None, ["y"]]}},
        sampler={"type": sampler},
    )
    trials: list[Trial] = []
    while (params := study.suggest(search, trials)) is not None:
        value = params["/a"] + len(str(params["/b"]))
        trials.append(_trial(len(trials) + 1, params, status="completed", value=value, losses=(value,)))
    assert len({wire.to_json(trial.params) for trial in trials}) == len(trials) == search.total == 12


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_the_choice_follows_from_seed_and_trials(sampler: str) -> None:
    def chosen(seed: int) -> list[Params]:
        search = _search(sampler={"type": sampler, "seed": seed})
        trials: list[Trial] = []
        for number in range(1, 14):
            params = study.suggest(search, trials)
            assert params is not None
            statuses: list[dict[str, Any]] = [
                {"status": "completed", "value": float(number), "losses": (9.0, float(number))},
                {"status": "pruned", "losses": (9.0,)},
                {"status": "failed", "error": "x"},
                {"status": "running"},
            ]
            trials.append(_trial(number, params, **statuses[number % 4]))
        return [trial.params for trial in trials]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


def test_numbers_stay_in_their_range() -> None:
    free = {"type": "float", "low": 1e-5, "high": 1e-2, "log": True}
    search = _search({"a": free, "b": {"type": "int", "low": 1, "high": 100, "log": True}})
    trials: list[Trial] = []
    for number in range(1, 30):
        params = study.suggest(search, trials)
        assert params is not None
        assert 1e-5 <= params["/a"] <= 1e-2
        assert 1 <= params["/b"] <= 100
        assert type(params["/b"]) is int
        trials.append(_trial(number, params, status="completed", value=params["/a"], losses=(params["/a"],)))
    # Spread over the orders of magnitude.
    assert sum(trial.params["/a"] < 1e-3 for trial in trials) > 5
    best = search.best(trials)
    assert best is not None
    assert best.value == min(trial.value or math.inf for trial in trials)


def test_a_score_is_maximised() -> None:
    objective = {"benchmark_id": "b", "scoring_function": "f", "aggregation": "accuracy"}
    search = _search({"a": {"type": "int", "low": 0, "high": 40}}, objective=objective)
    trials: list[Trial] = []
    for number in range(1, 25):
        params = study.suggest(search, trials)
        assert params is not None
        trials.append(_trial(number, params, status="completed", value=-abs(params["/a"] - 31)))
    best = search.best(trials)
    assert best is not None
    assert abs(best.params["/a"] - 31) <= 1
    later = [abs(trial.params["/a"] - 31) for trial in trials[12:]]
    assert statistics.mean(later) < statistics.mean(abs(t.params["/a"] - 31) for t in trials[:12])


def test_halving_ends_what_is_not_among_the_best() -> None:
    pruner = Pruner(min_epochs=1, reduction_factor=2)
    others = [_trial(n, {}, status="completed", value=v, losses=(v, v, v)) for n, v in ((1, 1.0), (2, 2.0), (3, 3.0))]
    running = [*others, _trial(4, {})]
    assert not study.is_hopeless(pruner, running, 4, (0.5,))
    assert study.is_hopeless(pruner, running, 4, (2.5,))
    # After the second epoch it is compared anew, with what the others had then.
    assert not study.is_hopeless(pruner, running, 4, (0.5, 0.5))
    assert study.is_hopeless(pruner, running, 4, (0.5, 2.5))
    # Between two rungs it goes on whatever its loss: they are at 1, 2, 4 … epochs.
    assert not study.is_hopeless(pruner, running, 4, (0.5, 0.5, 99.0))
    assert not study.is_hopeless(Pruner(min_epochs=2, reduction_factor=2), running, 4, (99.0,))
    # Alone, it is the best.
    assert not study.is_hopeless(pruner, [_trial(1, {})], 1, (99.0, 99.0))
