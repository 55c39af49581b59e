from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation_world import World, candidate
from paddock import wire
from paddock.errors import InvalidRequestError
from paddock.evaluation import plan
from paddock.evaluation.asking import Asking, Manner
from paddock.evaluation.schemas import BenchmarkConfig, SamplingParams
from paddock.inference.engine import Sampling


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(lambda _: "x")


def resolve(world: World, config: dict[str, Any], *functions: str, asking: Asking = Asking()) -> plan.Plan:
    return plan.resolve(
        BenchmarkConfig.model_validate(config),
        functions or ("basic::equality",),
        world.evaluation.functions,
        world.inference,
        asking=asking,
        pointer="/benchmark_config",
        functions_pointer="/scoring_functions",
    )


def refused(world: World, config: dict[str, Any], *functions: str, asking: Asking = Asking()) -> tuple[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(world, config, *functions, asking=asking)
    return caught.value.errors[0].pointer, caught.value.detail


@pytest.mark.parametrize(
    ("params", "sampling"),
    [
        ({}, Sampling()),
        ({"strategy": {"type": "greedy"}}, Sampling(temperature=0.0)),
        ({"strategy": {"type": "top_p", "temperature": 0.7}}, Sampling(temperature=0.7, top_p=0.95, top_k=0)),
        (
            {"strategy": {"type": "top_p", "temperature": None, "top_p": 0.5}},
            Sampling(temperature=1.0, top_p=0.5, top_k=0),
        ),
        (
            {"strategy": {"type": "top_p", "temperature": 0.7, "top_p": None}},
            Sampling(temperature=0.7, top_p=1, top_k=0),
        ),
        ({"strategy": {"type": "top_k", "top_k": 40}}, Sampling(temperature=1.0, top_p=1.0, top_k=40)),
        (
            {"max_tokens": 5, "repetition_penalty": 1.2, "stop": ["\n"]},
            Sampling(max_tokens=5, repetition_penalty=1.2, stop=("\n",)),
        ),
        ({"repetition_penalty": None, "stop": None}, Sampling()),
    ],
)
def test_sampling_parameters_as_an_engine_takes_them(params: dict[str, Any], sampling: Sampling) -> None:
    assert plan.sampling(SamplingParams.model_validate(params), "/s", Asking()) == sampling


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"max_tokens": 0}, "/s/max_tokens"),
        ({"repetition_penalty": 0}, "/s/repetition_penalty"),
        ({"stop": ["x", ""]}, "/s/stop/1"),
        ({"strategy": {"type": "top_p", "temperature": 1, "top_p": 0}}, "/s/strategy/top_p"),
        ({"strategy": {"type": "top_p", "temperature": 1, "top_p": 1.5}}, "/s/strategy/top_p"),
    ],
)
def test_sampling_parameters_that_cannot_be_right(params: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        plan.sampling(SamplingParams.model_validate(params), "/s", Asking())
    assert caught.value.errors[0].pointer == pointer


def test_a_plan_survives_the_database(world: World) -> None:
    config = candidate(strategy={"type": "top_p", "temperature": 0.5}, stop=["x"])
    config["eval_candidate"]["system_message"] = {"content": [{"type": "text", "text": "Be brief."}]}
    config["scoring_params"] = {"llm-as-judge::base": {"type": "llm_as_judge", "judge_model": "judge"}}
    resolved = resolve(world, config, "llm-as-judge::base", "basic::regex_parser_multiple_choice_answer")
    assert plan.from_json(wire.from_json(wire.to_json(resolved.to_json()))) == resolved


def test_what_parameters_leave_out_is_the_functions_own(world: World) -> None:
    config = candidate() | {
        "scoring_params": {"basic::equality": {"type": "basic", "aggregation_functions": ["median"]}}
    }
    equality, subset = resolve(world, config, "basic::equality", "basic::subset_of").functions
    assert equality.params.aggregation_functions == ["median"]
    assert subset.params.aggregation_functions == ["accuracy"]


def test_a_function_that_is_named_twice_runs_once(world: World) -> None:
    assert resolve(world, candidate(), "basic::equality", "basic::equality").function_ids == ["basic::equality"]


@pytest.mark.parametrize("model", ["nobody", "ranker"])
def test_a_model_that_cannot_be_asked(world: World, model: str) -> None:
    pointer, detail = refused(world, candidate(model))
    assert pointer == "/benchmark_config/eval_candidate/model"
    assert model in detail


def test_an_unknown_function(world: World) -> None:
    assert refused(world, candidate(), "basic::equality", "no::such")[0] == "/scoring_functions/1"


def test_no_function_at_all(world: World) -> None:
    with pytest.raises(InvalidRequestError, match="no scoring function"):
        plan.resolve_functions(
            [], {}, world.evaluation.functions, world.inference, pointer="/p", functions_pointer="/f"
        )


def test_parameters_for_a_function_that_is_not_run(world: World) -> None:
    config = candidate() | {"scoring_params": {"basic::subset_of": {"type": "basic"}}}
    assert refused(world, config)[0] == "/benchmark_config/scoring_params/basic::subset_of"


def test_parameters_of_another_kind(world: World) -> None:
    config = candidate() | {"scoring_params": {"basic::equality": {"type": "regex_parser"}}}
    pointer, detail = refused(world, config)
    assert pointer == "/benchmark_config/scoring_params/basic::equality/type"
    assert "'basic'" in detail


def test_a_judge_must_be_named(world: World) -> None:
    pointer, detail = refused(world, candidate(), "llm-as-judge::base")
    assert pointer == "/benchmark_config/scoring_params"
    assert "scoring_params" in detail


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"judge_model": "nobody"}, "judge_model"),
        ({"judge_model": "judge", "prompt_template": "no placeholder"}, "prompt_template"),
        ({"judge_model": "judge", "judge_score_regexes": ["("]}, "judge_score_regexes/0"),
    ],
)
def test_parameters_of_a_judge_that_cannot_be_right(world: World, params: dict[str, Any], pointer: str) -> None:
    config = candidate() | {"scoring_params": {"llm-as-judge::base": {"type": "llm_as_judge", **params}}}
    found, _ = refused(world, config, "llm-as-judge::base")
    assert found == f"/benchmark_config/scoring_params/llm-as-judge::base/{pointer}"


@pytest.mark.parametrize("num_examples", [0, -1])
def test_a_number_of_examples_that_is_none(world: World, num_examples: int) -> None:
    assert refused(world, candidate() | {"num_examples": num_examples})[0] == "/benchmark_config/num_examples"


def test_a_benchmark_says_how_answers_end_where_the_request_does_not(world: World) -> None:
    asking = Asking(Manner.COMPLETION, max_tokens=9, stop=("\n",))
    silent = resolve(world, candidate(), asking=asking).candidate
    said = resolve(world, candidate(max_tokens=3, stop=["x"]), asking=asking).candidate
    unstopped = resolve(world, candidate(stop=[]), asking=asking).candidate
    assert silent is not None
    assert said is not None
    assert unstopped is not None
    assert (silent.manner, silent.sampling.max_tokens, silent.sampling.stop) == (Manner.COMPLETION, 9, ("\n",))
    assert (said.sampling.max_tokens, said.sampling.stop) == (3, ("x",))
    assert unstopped.sampling.stop == ()


@pytest.mark.parametrize(
    ("sampling", "pointer"),
    [
        ({"max_tokens": 5}, "max_tokens"),
        ({"stop": ["x"]}, "stop"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"strategy": {"type": "top_k", "top_k": 4}}, "strategy"),
    ],
)
def test_what_changes_nothing_where_nothing_is_generated(world: World, sampling: dict[str, Any], pointer: str) -> None:
    at, detail = refused(world, candidate(**sampling), "loglikelihood::acc")
    assert at == f"/benchmark_config/eval_candidate/sampling_params/{pointer}"
    assert "nothing is generated" in detail


def test_likelihoods_are_compared_in_a_benchmark_of_their_own(world: World) -> None:
    at, detail = refused(world, candidate(), "basic::equality", "loglikelihood::acc_norm")
    assert at == "/scoring_functions"
    assert "two benchmarks" in detail


@pytest.mark.parametrize("asking", [Asking(Manner.COMPLETION), Asking()])
def test_a_system_message_needs_a_conversation(world: World, asking: Asking) -> None:
    config = candidate()
    config["eval_candidate"]["system_message"] = {"role": "system", "content": "be brief"}
    functions = ("loglikelihood::acc",) if asking.manner is Manner.CHAT else ("basic::equality",)
    at, _ = refused(world, config, *functions, asking=asking)
    assert at == "/benchmark_config/eval_candidate/system_message"
    assert resolve(world, config, "basic::equality").candidate is not None
