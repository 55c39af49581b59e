"""What is refused before anything is spent, and by which name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddock.errors import ConflictError, InvalidRequestError
from paddock.wiring import Resources
from training_office import add_dataset, chats, dpo_request, pairs, sft_request, submit, training

TC = "/training_config"


@pytest.fixture(autouse=True)
def datasets(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(4))
    add_dataset(resources, "pairs", pairs(4))
    add_dataset(resources, "empty", [])
    add_dataset(resources, "mixed", [*chats(2), {"messages": [{"role": "user", "content": "and?"}]}])
    add_dataset(resources, "roles", [{"messages": [{"role": "robot", "content": "x"}]}])


def _set(request: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    import copy

    changed = copy.deepcopy(request)
    inner = changed
    *folders, name = path.strip("/").split("/")
    for folder in folders:
        inner = inner.setdefault(folder, {})
    inner[name] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "pointer", "words"),
    [
        ("model", "nobody", "/model", "neither registered"),
        ("model", None, "/model", "default_training_model"),
        ("checkpoint_dir", "/etc", "/checkpoint_dir", "checkpoint root"),
        ("checkpoint_dir", "../out", "/checkpoint_dir", "checkpoint root"),
        (f"{TC}/n_epochs", 0, f"{TC}/n_epochs", "between 1"),
        (f"{TC}/max_steps_per_epoch", 0, f"{TC}/max_steps_per_epoch", "-1 for all"),
        (f"{TC}/gradient_accumulation_steps", 0, f"{TC}/gradient_accumulation_steps", "between 1"),
        (f"{TC}/max_validation_steps", 0, f"{TC}/max_validation_steps", "between 1"),
        (f"{TC}/max_seq_len", 100_000, f"{TC}/max_seq_len", "at most 512"),
        (f"{TC}/dtype", "fp16", f"{TC}/dtype", "this server trains on a CPU: use bf16"),
        (f"{TC}/dtype", "int3", f"{TC}/dtype", "one of"),
        (f"{TC}/data_config", None, f"{TC}/data_config", "required"),
        (f"{TC}/data_config/batch_size", 0, f"{TC}/data_config/batch_size", "between 1"),
        (f"{TC}/data_config/dataset_id", "nowhere", f"{TC}/data_config/dataset_id", "nowhere"),
        (f"{TC}/data_config/dataset_id", "empty", f"{TC}/data_config/dataset_id", "no rows"),
        (f"{TC}/data_config/dataset_id", "mixed", f"{TC}/data_config/dataset_id", "Row 2 .* no turn of the assistant"),
        (f"{TC}/data_config/dataset_id", "roles", f"{TC}/data_config/dataset_id", r"Row 0 .*messages\[0\]\.role"),
        (f"{TC}/data_config/validation_dataset_id", "x", f"{TC}/data_config/validation_dataset_id", "x"),
        (f"{TC}/data_config/validation_dataset_id", "mixed", f"{TC}/data_config/validation_dataset_id", "Row 2"),
        (f"{TC}/optimizer_config/lr", 0, f"{TC}/optimizer_config/lr", "greater than 0"),
        (f"{TC}/efficiency_config/fsdp_cpu_offload", True, f"{TC}/efficiency_config/fsdp_cpu_offload", "refused"),
        ("algorithm_config/rank", 0, "/algorithm_config/rank", "between 1"),
        ("algorithm_config/lora_attn_modules", ["w_proj"], "/algorithm_config/lora_attn_modules/0", "w_proj"),
        ("logger_config", {"wandb": {}}, "/logger_config/wandb", "not permitted"),
        ("logger_config", {"loggers": ["csv"]}, "/logger_config/loggers/0", "'tensorboard'"),
        ("logger_config", {"loggers": ["tensorboard"] * 2}, "/logger_config/loggers/1", "second time"),
        ("logger_config", {"loggers": ["trackio"]}, "/logger_config/loggers/0", "pip install trackio"),
        ("logger_config", {"run_name": ""}, "/logger_config/run_name", "1 to 256 characters"),
        ("logger_config", {"project": "../x"}, "/logger_config/project", "no segment"),
        ("logger_config", {"tags": {"a": 1}}, "/logger_config/tags/a", "valid string"),
        ("logger_config", {"tags": {"a\n": "b"}}, "/logger_config/tags/a\n", "printable"),
    ],
)
def test_refused_at_submission(resources: Resources, path: str, value: Any, pointer: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as refusal:
        submit(resources, _set(sft_request("job", training("chats")), path, value))
    assert [error.pointer for error in refusal.value.errors] == [pointer]
    assert resources.jobs.find("job") is None


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("finetuned_model", "nobody", "/finetuned_model"),
        ("algorithm_config/beta", 0, "/algorithm_config/beta"),
        (f"{TC}/data_config/dataset_id", "chats", f"{TC}/data_config/dataset_id"),
    ],
)
def test_refused_preferences(resources: Resources, path: str, value: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        submit(resources, _set(dpo_request("job", "tiny", training("pairs")), path, value))
    assert [error.pointer for error in refusal.value.errors] == [pointer]


def test_the_job_id_is_its_own_key(resources: Resources) -> None:
    request = sft_request("job", training("chats"))
    assert submit(resources, request) == submit(resources, request)
    with pytest.raises(ConflictError):
        submit(resources, _set(request, f"{TC}/n_epochs", 9))
    assert resources.jobs.get("job").reads_dataset("chats").num_rows == 4


def test_submission_loads_no_tensors(tmp_path: Path, tiny_llama: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, pathlib\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from training_office import *\n"
        "from paddock import wiring; from paddock.inference.engine import Model; from paddock.settings import Settings\n"
        f"r = wiring.build(Settings(data_dir=pathlib.Path({str(tmp_path / 'data')!r})))\n"
        f"r.inference.models.register(Model('tiny', 'local', {str(tiny_llama)!r}))\n"
        "add_dataset(r, 'chats', chats(4)); add_dataset(r, 'pairs', pairs(4))\n"
        "submit(r, sft_request('a', training('chats'))); submit(r, dpo_request('b', 'tiny', training('pairs'), lora=LORA))\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'numpy') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
