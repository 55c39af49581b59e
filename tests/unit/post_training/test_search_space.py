"""What is refused of a search at submission, by which name; nothing of it is left for the trials to find out."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.errors import ConflictError, InvalidRequestError
from paddock.post_training import search_space
from paddock.post_training.schemas import SupervisedFineTuneRequest
from paddock.wiring import Resources
from training_office import LORA, add_dataset, chats, dpo_request, pairs, run, sft_request, submit, training

AT = "/hyperparam_search_config"
SPACE = f"{AT}/space"
LR = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
LR_FIELD = "training_config.optimizer_config.lr"


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(4))
    add_dataset(resources, "pairs", pairs(4))


def _request(config: dict[str, Any], **data: Any) -> dict[str, Any]:
    asked = training("chats", **{"validation_dataset_id": "chats"} | data)
    return sft_request("s", asked, hyperparam_search_config=config)


def _space(name: str, parameter: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"space": {name: parameter}} | more


RANGE = {"type": "int", "low": 1, "high": 4}
TC = "training_config"


@pytest.mark.parametrize(
    ("config", "pointer", "words"),
    [
        ({"trials": 3}, f"{AT}/space", "required"),
        (_space(LR_FIELD, LR, trials=3), f"{AT}/trials", "not permitted"),
        ({"space": {}}, f"{AT}/space", "at least 1"),
        (_space(LR_FIELD, LR | {"lo": 1}), f"{SPACE}/{LR_FIELD}/lo", "not permitted"),
        (_space(LR_FIELD, {"type": "real"}), f"{SPACE}/{LR_FIELD}", "float"),
        (_space(LR_FIELD, LR | {"high": 1e-9}), f"{SPACE}/{LR_FIELD}", "low must not be greater"),
        (_space(LR_FIELD, LR | {"low": 0}), f"{SPACE}/{LR_FIELD}", "greater than 0 where log"),
        (_space(LR_FIELD, LR | {"step": 1e-3}), f"{SPACE}/{LR_FIELD}", "exclude each other"),
        (_space(LR_FIELD, {"type": "categorical", "choices": []}), f"{SPACE}/{LR_FIELD}/choices", "at least 1"),
        (_space(LR_FIELD, {"type": "categorical", "choices": [1, 1.0]}), f"{SPACE}/{LR_FIELD}", "differ"),
        (_space(LR_FIELD, LR, num_trials=0), f"{AT}/num_trials", "greater than or equal to 1"),
        (_space(LR_FIELD, LR, sampler={"type": "annealing"}), f"{AT}/sampler/type", "'tpe'"),
        (_space(LR_FIELD, LR, sampler={"type": "grid"}), f"{AT}/sampler/type", "finitely many"),
        (
            _space("algorithm_config.rank", {"type": "int", "low": 1, "high": 2000}, sampler={"type": "grid"}),
            f"{AT}/num_trials",
            "must be given",
        ),
        (_space(LR_FIELD, LR, pruning={"reduction_factor": 1}), f"{AT}/pruning/reduction_factor", "greater than or"),
        (_space(LR_FIELD, LR, objective="accuracy"), f"{AT}/objective", "validation_loss"),
        # Paths.
        (_space("lr", LR), f"{SPACE}/lr", "names no field"),
        (_space(f"{TC}.lr", LR), f"{SPACE}/{TC}.lr", "names no field"),
        (_space(f"{TC}.optimizer_config", RANGE), f"{SPACE}/{TC}.optimizer_config", "names no field"),
        (
            _space(f"{TC}.efficiency_config.fsdp_cpu_offload", RANGE),
            f"{SPACE}/{TC}.efficiency_config.fsdp_cpu_offload",
            "names no field",
        ),
        (_space("job_uuid", RANGE), f"{SPACE}/job_uuid", "names no field"),
        (_space(f"/{TC}/n_epochs/x", RANGE), f"{SPACE}/~1{TC}~1n_epochs~1x", "names no field"),
        (
            {"space": {LR_FIELD: LR, f"/{TC}/optimizer_config/lr": LR}},
            f"{SPACE}/~1{TC}~1optimizer_config~1lr",
            "second time",
        ),
        (
            _space(f"{TC}.data_config.dataset_id", {"type": "categorical", "choices": ["chats"]}),
            f"{SPACE}/{TC}.data_config.dataset_id",
            "same rows",
        ),
        # Types.
        (_space("algorithm_config.rank", LR), f"{SPACE}/algorithm_config.rank/type", "no fractions"),
        (_space(f"{TC}.dtype", RANGE), f"{SPACE}/{TC}.dtype/type", "must be categorical"),
        (_space(f"{TC}.data_config.shuffle", RANGE), f"{SPACE}/{TC}.data_config.shuffle/type", "must be categorical"),
        (
            _space("algorithm_config.rank", {"type": "categorical", "choices": [4, "many"]}),
            f"{SPACE}/algorithm_config.rank",
            "integer",
        ),
        # Values at the ends of the space.
        (_space(f"{TC}.n_epochs", {"type": "int", "low": 0, "high": 2}), f"{SPACE}/{TC}.n_epochs", "between 1"),
        (
            _space(f"{TC}.optimizer_config.weight_decay", {"type": "float", "low": -0.1, "high": 0.1}),
            f"{SPACE}/{TC}.optimizer_config.weight_decay",
            "negative",
        ),
        (
            _space("algorithm_config.dropout", {"type": "float", "low": 0, "high": 1}),
            f"{SPACE}/algorithm_config.dropout",
            "less than 1",
        ),
        (_space(f"{TC}.dtype", {"type": "categorical", "choices": ["bf16", "int3"]}), f"{SPACE}/{TC}.dtype", "one of"),
        (
            _space("algorithm_config.lora_attn_modules", {"type": "categorical", "choices": [["q_proj"], ["w_proj"]]}),
            f"{SPACE}/algorithm_config.lora_attn_modules",
            "w_proj",
        ),
        # What is measured must not change.
        (
            _space(f"{TC}.max_seq_len", {"type": "int", "low": 8, "high": 64}),
            f"{SPACE}/{TC}.max_seq_len",
            "validation loss is",
        ),
        (_space(f"{TC}.data_config.batch_size", RANGE), f"/{TC}/max_validation_steps", "must be -1"),
        # Benchmarks.
        (_space(LR_FIELD, LR, objective={"benchmark_id": "b"}), f"{AT}/objective/scoring_function", "required"),
        (
            _space(LR_FIELD, LR, objective={"benchmark_id": "b", "scoring_function": "f", "aggregation": "a"}),
            f"{AT}/objective/benchmark_id",
            "no benchmark 'b'",
        ),
    ],
)
def test_refused_at_submission(resources: Resources, config: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as refusal:
        submit(resources, _request(config))
    assert pointer in [error.pointer for error in refusal.value.errors]
    assert resources.jobs.find("s") is None


@pytest.mark.parametrize("config", [_space(LR_FIELD, LR), _space(LR_FIELD, LR, pruning={})])
def test_a_validation_loss_needs_validation_data(resources: Resources, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="needs validation data") as refusal:
        submit(resources, _request(config, validation_dataset_id=None))
    assert refusal.value.errors[0].pointer == f"{AT}/objective"


def test_a_loss_cannot_compare_losses(resources: Resources) -> None:
    config = _space("algorithm_config.beta", {"type": "float", "low": 0.1, "high": 0.5})
    request = dpo_request("s", "tiny", training("pairs", validation_dataset_id="pairs"), lora=LORA)
    with pytest.raises(InvalidRequestError, match="changes what a validation loss is"):
        submit(resources, request | {"hyperparam_search_config": config})


def test_everything_wrong_is_named_at_once(resources: Resources) -> None:
    config = {"space": {"nowhere": LR, "algorithm_config.rank": LR}, "sampler": {"type": "grid"}}
    with pytest.raises(InvalidRequestError) as refusal:
        submit(resources, _request(config, validation_dataset_id=None))
    assert [error.pointer for error in refusal.value.errors] == [
        f"{SPACE}/nowhere", f"{SPACE}/algorithm_config.rank/type", f"{AT}/objective", f"{AT}/sampler/type",
    ]  # fmt: skip


def test_without_optuna_the_extra_is_named(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_space.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'paddock\[search\]'"):
        submit(resources, _request(_space(LR_FIELD, LR)))


def test_ids_of_trials_are_the_searches_own(resources: Resources) -> None:
    run(resources, sft_request("s:trial-1", training("chats", n_epochs=1)))
    with pytest.raises(InvalidRequestError, match="Choose another job_uuid"):
        submit(resources, _request(_space(LR_FIELD, LR)))
    other = _request(_space(LR_FIELD, LR)) | {"job_uuid": "other"}
    assert submit(resources, other) == submit(resources, other)
    with pytest.raises(InvalidRequestError, match="those of the search other's trials"):
        submit(resources, sft_request("other:trial-7", training("chats")))
    with pytest.raises(ConflictError):
        submit(resources, other | {"hyperparam_search_config": {}})


def test_the_ends_are_tried_one_by_one() -> None:
    config = {
        "space": {
            LR_FIELD: LR,
            "algorithm_config.rank": RANGE,
            "/algorithm_config/lora_attn_modules": {"type": "categorical", "choices": [["q_proj"], ["v_proj"], []]},
        }
    }
    request = SupervisedFineTuneRequest.model_validate(_request(config))
    search = search_space.read(request)
    assert search is not None
    tried = [
        (r.training_config.optimizer_config.lr, r.algorithm_config.rank, r.algorithm_config.lora_attn_modules)  # type: ignore[union-attr]
        for r in search_space.variants(search, request)
    ]
    assert tried == [
        (1e-4, 1, ["q_proj"]), (1e-2, 1, ["q_proj"]), (1e-4, 4, ["q_proj"]), (1e-4, 1, ["v_proj"]), (1e-4, 1, []),
    ]  # fmt: skip
