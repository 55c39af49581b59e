"""What an evaluation does, resolved: the model, how it samples, and each scoring function with complete parameters.

A job stores its plan, so that nothing that is registered or configured meanwhile changes what its score means.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddock.errors import InvalidRequestError
from paddock.evaluation import function_store, prompts
from paddock.evaluation.asking import Asking, Manner
from paddock.evaluation.function_store import Definition, FunctionStore
from paddock.evaluation.schemas import (
    BenchmarkConfig,
    GreedySamplingStrategy,
    LLMAsJudgeScoringFnParams,
    SamplingParams,
    TopKSamplingStrategy,
    TopPSamplingStrategy,
)
from paddock.evaluation.scoring import SCORING_FUNCTIONS
from paddock.evaluation.scoring.function import Params, Scorer, completed
from paddock.inference.engine import Message, Model, Sampling
from paddock.inference.inference import Inference
from paddock.jobs.job import Job
from paddock.wire import escape_pointer


@dataclass(frozen=True)
class FunctionRun:
    """A scoring function as it is run: `kind` names the one of `SCORING_FUNCTIONS` that does the work."""

    function_id: str
    kind: str
    params: Params
    judge: Model | None
    embedder: Model | None = None
    """What compares texts, for functions that ask it."""

    @property
    def models(self) -> Sequence[Model]:
        """The models that it asks."""
        return [model for model in (self.judge, self.embedder) if model is not None]

    @property
    def compares_likelihoods(self) -> bool:
        """Whether it scores the likelihoods of choices, not an answer."""
        return SCORING_FUNCTIONS[self.kind].by_likelihood

    def scorer(self, pointer: str = "") -> Scorer:
        """The function made ready. Raises `InvalidRequestError` below `pointer` for parameters that cannot be right."""
        return SCORING_FUNCTIONS[self.kind].prepare(self.params, pointer)


@dataclass(frozen=True)
class Candidate:
    """Whose answers are evaluated: a model, how it samples, and what it is told before each row."""

    model: Model
    sampling: Sampling
    """Where answers are drawn, `seed` is that of result 0; result i is drawn from seed + i."""
    system: Message | None
    num_samples: int = 1
    pass_at_k: tuple[int, ...] = ()
    manner: Manner = Manner.CHAT


@dataclass(frozen=True)
class Plan:
    """What an evaluation does. Without a candidate the rows bring their answers along."""

    candidate: Candidate | None
    functions: tuple[FunctionRun, ...]

    @property
    def num_samples(self) -> int:
        """How many results a row has."""
        return 1 if self.candidate is None else self.candidate.num_samples

    @property
    def function_ids(self) -> Sequence[str]:
        return [function.function_id for function in self.functions]

    def to_json(self) -> dict[str, Any]:
        """The plan as a job stores it."""
        return {
            "candidate": None if self.candidate is None else dataclasses.asdict(self.candidate),
            "functions": [
                {
                    "function_id": function.function_id,
                    "kind": function.kind,
                    "params": function.params.model_dump(mode="json"),
                    "judge": None if function.judge is None else dataclasses.asdict(function.judge),
                }
                | ({} if function.embedder is None else {"embedder": dataclasses.asdict(function.embedder)})
                for function in self.functions
            ],
        }


def from_json(stored: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.to_json` wrote."""
    candidate = stored["candidate"]
    return Plan(
        candidate=None
        if candidate is None
        else Candidate(
            model=Model(**candidate["model"]),
            sampling=Sampling(**{**candidate["sampling"], "stop": tuple(candidate["sampling"]["stop"])}),
            system=candidate["system"],
            num_samples=candidate.get("num_samples", 1),
            pass_at_k=tuple(candidate.get("pass_at_k", ())),
            manner=Manner(candidate.get("manner", Manner.CHAT)),
        ),
        functions=tuple(
            FunctionRun(
                function_id=function["function_id"],
                kind=function["kind"],
                params=function_store.params_from_json(function["params"]),
                judge=None if function["judge"] is None else Model(**function["judge"]),
                embedder=Model(**function["embedder"]) if "embedder" in function else None,
            )
            for function in stored["functions"]
        ),
    )


def resolve(
    config: BenchmarkConfig,
    function_ids: Sequence[str],
    known: FunctionStore,
    inference: Inference,
    *,
    asking: Asking,
    pointer: str,
    functions_pointer: str,
) -> Plan:
    """The plan of a request on a benchmark that says `asking`; `pointer` is where its configuration stands in the body,
    `functions_pointer` where the list of functions does. Raises `InvalidRequestError` for whatever the client can mend."""
    candidate = config.eval_candidate
    at = f"{pointer}/eval_candidate"
    model = language_model(candidate.model, inference, f"{at}/model")
    if config.num_examples is not None and config.num_examples < 1:
        raise InvalidRequestError("`num_examples` must be at least 1.", pointer=f"{pointer}/num_examples")
    message = candidate.system_message
    drawn = sampling(candidate.sampling_params, f"{at}/sampling_params", asking)
    _check_samples(config, drawn, pointer)
    functions = resolve_functions(
        function_ids,
        config.scoring_params,
        known,
        inference,
        pointer=f"{pointer}/scoring_params",
        functions_pointer=functions_pointer,
    )
    manner = _manner(functions, asking, functions_pointer)
    _check_manner(manner, config, at)

    def check_image(url: str) -> None:
        inference.engine(model).check_image(model, url)

    return Plan(
        Candidate(
            model=model,
            sampling=_seeded(drawn, config.seed),
            system=None if message is None else prompts.system_message(message, f"{at}/system_message", check_image),
            num_samples=config.num_samples or 1,
            pass_at_k=tuple(dict.fromkeys(config.pass_at_k or ())),
            manner=manner,
        ),
        functions=functions,
    )


def _manner(functions: Sequence[FunctionRun], asking: Asking, pointer: str) -> Manner:
    """How the rows are put to the model so that all functions can score what it says. Raises `InvalidRequestError`."""
    by_likelihood = [run.function_id for run in functions if run.compares_likelihoods]
    if not by_likelihood:
        return asking.manner
    others = [run.function_id for run in functions if not run.compares_likelihoods]
    if others:
        raise InvalidRequestError(
            f"{by_likelihood[0]} compares the likelihoods of choices, for which nothing is generated that {others[0]} "
            "could score: put them into two benchmarks.",
            pointer=pointer,
        )
    return Manner.LOG_LIKELIHOOD


def _check_manner(manner: Manner, config: BenchmarkConfig, pointer: str) -> None:
    """Raise `InvalidRequestError` for what has no meaning where the rows are put to the model in this manner."""
    if manner is Manner.CHAT:
        return
    candidate, params = config.eval_candidate, config.eval_candidate.sampling_params
    if candidate.system_message is not None:
        raise InvalidRequestError(
            "This benchmark has the model continue texts, without a conversation in which a system message could stand.",
            pointer=f"{pointer}/system_message",
        )
    if manner is Manner.COMPLETION:
        return
    asked = {
        "strategy": not isinstance(params.strategy, GreedySamplingStrategy),
        "max_tokens": params.max_tokens is not None,
        "repetition_penalty": params.repetition_penalty not in (None, 1.0),
        "stop": bool(params.stop),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise InvalidRequestError(
                f"This benchmark compares the likelihoods of choices: nothing is generated, so `{name}` changes nothing.",
                pointer=f"{pointer}/sampling_params/{name}",
            )


def _check_samples(config: BenchmarkConfig, drawn: Sampling, pointer: str) -> None:
    """Raise `InvalidRequestError` for samples or a seed where nothing is drawn, and for a pass@k of more than there are."""
    num_samples = config.num_samples or 1
    for name, is_asked in (("num_samples", num_samples > 1), ("seed", config.seed is not None)):
        if is_asked and drawn.temperature == 0:
            raise InvalidRequestError(
                f"A greedy model gives the same answer each time, so `{name}` changes nothing: sample with a strategy "
                "of `top_p` (a temperature over 0) or `top_k`.",
                pointer=f"{pointer}/{name}",
            )
    for index, k in enumerate(config.pass_at_k or ()):
        if not 1 <= k <= num_samples:
            raise InvalidRequestError(
                f"pass@{k} is told of at least {k} samples, and there are {num_samples}: send `num_samples`.",
                pointer=f"{pointer}/pass_at_k/{index}",
            )


def _seeded(drawn: Sampling, seed: int | None) -> Sampling:
    """The same with a seed, where anything is drawn: the one given, or any."""
    if drawn.temperature == 0:
        return drawn
    return dataclasses.replace(drawn, seed=secrets.randbits(31) if seed is None else seed)


def resolve_functions(
    function_ids: Sequence[str],
    given: Mapping[str, Params | None],
    known: FunctionStore,
    inference: Inference,
    *,
    pointer: str,
    functions_pointer: str,
) -> tuple[FunctionRun, ...]:
    """Functions in the order given, each once, with the parameters that were `given` (at `pointer`) over their own.

    `functions_pointer` is where the list of functions stands, or `pointer` where they are the keys of `given`."""
    if not function_ids:
        raise InvalidRequestError("There is no scoring function to run.", pointer=functions_pointer)
    for function_id in given:
        if function_id not in function_ids:
            raise InvalidRequestError(
                f"There are parameters for {function_id!r}, which is not among the scoring functions that are run.",
                pointer=f"{pointer}/{escape_pointer(function_id)}",
            )
    runs: dict[str, FunctionRun] = {}
    for index, function_id in enumerate(function_ids):
        if function_id in runs:
            continue
        definition = known.define(function_id)
        if definition is None:
            place = escape_pointer(function_id) if functions_pointer == pointer else str(index)
            raise InvalidRequestError(
                function_store.not_found(function_id).detail, pointer=f"{functions_pointer}/{place}"
            )
        runs[function_id] = _run(function_id, definition, given.get(function_id), inference, pointer)
    return tuple(runs.values())


def _run(
    function_id: str, definition: Definition, given: Params | None, inference: Inference, pointer: str
) -> FunctionRun:
    at = f"{pointer}/{escape_pointer(function_id)}"
    params = definition.defaults
    if given is not None:
        if type(given) is not type(params):
            raise InvalidRequestError(
                f"{function_id} takes parameters of the type {params.type!r}, not {given.type!r}.",
                pointer=f"{at}/type",
            )
        params = completed(given, params)
    judge = embedder = None
    asks_judge = SCORING_FUNCTIONS[definition.kind].asks_judge
    if isinstance(params, LLMAsJudgeScoringFnParams) and not asks_judge and params.judge_model:
        raise InvalidRequestError(
            f'{function_id} asks no judge: leave its `judge_model` empty ("").', pointer=f"{at}/judge_model"
        )
    if isinstance(params, LLMAsJudgeScoringFnParams) and asks_judge:
        if not params.judge_model:
            raise InvalidRequestError(
                f"{function_id} needs a judge: name its model in `{pointer.rpartition('/')[2]}`, as "
                f'{{"{function_id}": {{"type": "llm_as_judge", "judge_model": "…"}}}}.',
                pointer=pointer,
            )
        judge = language_model(params.judge_model, inference, f"{at}/judge_model")
    if isinstance(params, LLMAsJudgeScoringFnParams) and params.embedding_model:
        embedder = inference.find_for(params.embedding_model, f"{at}/embedding_model")
        if embedder.model_type != "embedding":
            raise InvalidRequestError(
                f"The model {embedder.model_id} is of the type {embedder.model_type!r}: texts are compared by one of "
                "the type 'embedding'.",
                pointer=f"{at}/embedding_model",
            )
    run = FunctionRun(function_id, definition.kind, params, judge, embedder)
    run.scorer(at)
    return run


def language_model(model_id: str, inference: Inference, pointer: str) -> Model:
    """The model of this id, which must be one that generates text. Raises `InvalidRequestError` at `pointer`."""
    model = inference.find_for(model_id, pointer)
    if model.model_type != "llm":
        raise InvalidRequestError(
            f"The model {model_id} is of the type {model.model_type!r}: it generates no text.", pointer=pointer
        )
    return model


def sampling(params: SamplingParams, pointer: str, asking: Asking) -> Sampling:
    """The contract's sampling parameters as an engine takes them, the benchmark's where they say nothing. A strategy is
    all that restricts a draw: top-p is not narrowed by the model's own top-k, nor top-k by its top-p. A null temperature
    is 1, a null top-p every token. Raises `InvalidRequestError` below `pointer`."""
    strategy = params.strategy
    penalty = 1.0 if params.repetition_penalty is None else params.repetition_penalty
    stop = tuple((asking.stop if params.stop is None else params.stop) or ())
    if params.max_tokens is not None and params.max_tokens < 1:
        raise InvalidRequestError("`max_tokens` must be at least 1.", pointer=f"{pointer}/max_tokens")
    if penalty <= 0:
        raise InvalidRequestError("`repetition_penalty` must be over 0.", pointer=f"{pointer}/repetition_penalty")
    if "" in stop:
        raise InvalidRequestError(
            "A stop sequence has at least one character.", pointer=f"{pointer}/stop/{stop.index('')}"
        )
    temperature, top_p, top_k = 0.0, None, None
    if isinstance(strategy, TopPSamplingStrategy):
        temperature = 1.0 if strategy.temperature is None else strategy.temperature
        top_p, top_k = 1.0 if strategy.top_p is None else strategy.top_p, 0
        if not 0 < top_p <= 1:
            raise InvalidRequestError("`top_p` must be over 0 and at most 1.", pointer=f"{pointer}/strategy/top_p")
    elif isinstance(strategy, TopKSamplingStrategy):
        temperature, top_p, top_k = 1.0, 1.0, strategy.top_k
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=asking.max_tokens if params.max_tokens is None else params.max_tokens,
        repetition_penalty=penalty,
        stop=stop,
    )


def num_results(job: Job) -> int:
    """How many results a job finds out: one for each sample of each row. Those of labelled rows follow."""
    candidate = job.request["plan"]["candidate"]
    samples: int = candidate.get("num_samples", 1)
    return num_rows(job) * samples


def num_rows(job: Job) -> int:
    """How many rows a job evaluates. One that was submitted while its dataset was still being read says at most how many
    are asked for: the rest follows from what its dataset held in the end."""
    asked: int | None = job.request["num_rows"]
    there = job.reads_dataset(job.request["dataset_id"]).num_rows
    return there if asked is None else min(asked, there)
