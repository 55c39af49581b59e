"""A corpus of bad datasets and bad requests. Each is one change to a good one, and is refused when it is submitted, by the
name of the field or of the row; nothing of it is kept.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from paddock import wiring
from paddock.inference.engine import Model
from paddock.post_training import machine
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources
from tiny_models import CHAT_TEMPLATE
from training_office import LORA, add_dataset, chats, dpo_request, pairs, sft_request, training

SFT, DPO = "supervised-fine-tune", "preference-optimize"
TC, AC, HS, LC = "/training_config", "/algorithm_config", "/hyperparam_search_config", "/logger_config"
DATA, OPTIMIZER, EFFICIENCY = f"{TC}/data_config", f"{TC}/optimizer_config", f"{TC}/efficiency_config"
DATASET = f"{DATA}/dataset_id"

USER = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
LONG = "x" * 600  # the model takes 512 bytes


class Row(NamedTuple):
    """A row that cannot be used; `words` stand in the refusal, after the row's index."""

    name: str
    data_format: str
    row: dict[str, Any]
    words: str


def _chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def _pair(**fields: Any) -> dict[str, Any]:
    return {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"} | fields


def _call(**function: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", **function}]}


ROWS = [
    # What holds the conversation.
    Row("dialog: no conversation", "dialog", {"question": "2 + 2?", "answer": "4"}, "has no `messages` or `dialog`"),
    Row("dialog: empty row", "dialog", {}, "has no `messages` or `dialog`"),
    Row("dialog: null", "dialog", {"messages": None}, "has no `messages` or `dialog`"),
    Row("dialog: columns of preferences", "dialog", _pair(), "has no `messages` or `dialog`"),
    Row("dialog: plain text", "dialog", {"messages": "hello"}, "`messages` is a text that holds no JSON list"),
    Row("dialog: text of a number", "dialog", {"messages": "17"}, "`messages` is not a list of messages"),
    Row("dialog: no messages", "dialog", _chat(), "`messages` is not a list of messages"),
    Row("dialog: a number", "dialog", {"messages": 4}, "`messages` is not a list of messages"),
    Row("dialog: an empty `dialog`", "dialog", {"dialog": []}, "`dialog` is not a list of messages"),
    Row("instruct: no prompt", "instruct", {"answer": "4"}, "has no `chat_completion_input`"),
    Row("instruct: no answer", "instruct", {"question": "2 + 2?"}, "has no `expected_answer` or `answer`"),
    Row("instruct: null answer", "instruct", {"question": "2 + 2?", "answer": None}, "has no `expected_answer`"),
    Row("instruct: answer is a number", "instruct", {"question": "2 + 2?", "answer": 4}, "`answer` is not a list"),
    Row("instruct: question is a list", "instruct", {"question": ["2"], "answer": "4"}, "`question[0]` is not an object"),
    # Messages.
    Row("message is a text", "dialog", _chat("hello", ANSWER), "`messages[0]` is not an object"),
    Row("message without a role", "dialog", _chat({"content": "x"}, ANSWER), "`messages[0].role` must be one of"),
    Row("unknown role", "dialog", _chat({"role": "robot", "content": "x"}, ANSWER), "`messages[0].role` must be one of"),
    Row("role of another dialect", "dialog", _chat({"from": "human", "value": "x"}), "`messages[0].role` must be one of"),
    Row("role in capitals", "dialog", _chat(USER, ANSWER | {"role": "Assistant"}), "`messages[1].role` must be one of"),
    Row("message without content", "dialog", _chat({"role": "user"}, ANSWER), "`messages[0].content` is neither a text"),
    Row("content is a number", "dialog", _chat(USER | {"content": 4}, ANSWER), "`messages[0].content` is neither a text"),
    Row("content is an object", "dialog", _chat(USER | {"content": {}}, ANSWER), "`messages[0].content` is neither"),
    Row("content holds null", "dialog", _chat(USER | {"content": [None]}, ANSWER), "`messages[0].content` is neither"),
    Row("a picture", "dialog", _chat(USER | {"content": [PICTURE]}, ANSWER), "`messages[0].content` holds an image"),
    Row("a sound", "dialog", _chat(USER | {"content": [{"type": "input_audio"}]}, ANSWER), "`messages[0].content` is"),
    Row("calls are an object", "dialog", _chat(USER, ANSWER | {"tool_calls": {}}), "`messages[1].tool_calls` is not a list"),
    Row("call without function", "dialog", _chat(USER, _call()), "`messages[1].tool_calls[0]` has no `function`"),
    Row("call with broken arguments", "dialog", _chat(USER, _call(function={"arguments": "{"})), "arguments` is a text"),
    # What is learnt.
    Row("dialog: nobody answers", "dialog", _chat(SYSTEM, USER), "holds no turn of the assistant"),
    Row("dialog: nobody asks", "dialog", _chat(ANSWER), "holds an answer without a prompt before it"),
    Row("dialog: answers alone", "dialog", _chat(ANSWER, ANSWER), "holds an answer without a prompt before it"),
    Row("dialog: empty answer", "dialog", _chat(USER, ANSWER | {"content": ""}), "`messages[1]` holds an answer that is"),
    Row("dialog: blank answer", "dialog", _chat(USER, ANSWER | {"content": " \n"}), "`messages[1]` holds an answer that is"),
    Row("dialog: second answer empty", "dialog", _chat(USER, ANSWER, USER, ANSWER | {"content": ""}), "`messages[3]` holds"),
    Row("dialog: answer of no parts", "dialog", _chat(USER, ANSWER | {"content": []}), "`messages[1]` holds an answer that"),
    Row("instruct: ends with a question", "instruct", _chat(ANSWER, USER), "has no `expected_answer`"),
    Row("instruct: nobody asks", "instruct", _chat(ANSWER), "holds an answer without a prompt before it"),
    Row("instruct: empty answer", "instruct", {"question": "2 + 2?", "answer": ""}, "`answer` holds an answer that is"),
    Row("instruct: empty last turn", "instruct", _chat(USER, ANSWER | {"content": ""}), "`messages` holds an answer that"),
    Row("instruct: answer is a question", "instruct", {"question": "?", "answer": [USER]}, "`answer` does not end with"),
    # How long it is, and what the chat template makes of it.
    Row("dialog: prompt too long", "dialog", _chat(USER | {"content": LONG}, ANSWER), "within 512 tokens: 603 come before"),
    Row("instruct: prompt too long", "instruct", {"question": LONG, "answer": "4"}, "no token of its answer is left"),
    Row("dialog: system turn too long", "dialog", _chat(SYSTEM | {"content": LONG}, USER, ANSWER), "no token of its answer"),
]  # fmt: skip

PREFERENCES = [
    Row("no chosen", "dialog", {"prompt": "2 + 2?", "rejected": "5"}, "`chosen` is missing"),
    Row("no rejected", "dialog", {"prompt": "2 + 2?", "chosen": "4"}, "`rejected` is missing"),
    Row("null chosen", "dialog", _pair(chosen=None), "`chosen` is missing"),
    Row("columns of a conversation", "dialog", _chat(USER, ANSWER), "`chosen` is missing"),
    Row("no prompt", "dialog", {"chosen": "4", "rejected": "5"}, "`prompt` is missing"),
    Row("conversations that begin differently", "dialog",
        {"chosen": [USER, ANSWER], "rejected": [SYSTEM, ANSWER]}, "do not begin with the same messages"),
    Row("chosen answers another prompt", "dialog", _pair(chosen=[USER | {"content": "?"}, ANSWER]),
        "`chosen` does not go on with a turn of the assistant"),
    Row("rejected answers another prompt", "dialog", _pair(rejected=[SYSTEM, ANSWER]),
        "`rejected` does not go on with a turn of the assistant"),
    Row("chosen is the prompt alone", "dialog", _pair(chosen=[USER]), "`chosen` does not go on with a turn"),
    Row("instruct: chosen ends with a question", "instruct", _pair(chosen=[ANSWER, USER]), "`chosen` does not end with"),
    Row("equal answers", "dialog", _pair(rejected="4"), "`chosen` and `rejected` are the same"),
    Row("equal conversations", "dialog", {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "are the same"),
    Row("equal, text and messages", "instruct", _pair(rejected=[ANSWER]), "`chosen` and `rejected` are the same"),
    Row("empty chosen", "dialog", _pair(chosen=""), "`chosen` holds an answer that is empty"),
    Row("empty rejected", "instruct", _pair(rejected=" "), "`rejected` holds an answer that is empty"),
    Row("chosen has no messages", "dialog", _pair(chosen=[]), "`chosen` is not a list of messages"),
    Row("chosen is a number", "dialog", _pair(chosen=4), "`chosen` is not a list of messages"),
    Row("rejected is a boolean", "dialog", _pair(rejected=True), "`rejected` is not a list of messages"),
    Row("prompt is a number", "dialog", _pair(prompt=4), "`prompt` is not a list of messages"),
    Row("prompt with an unknown role", "dialog", _pair(prompt=[{"role": "me", "content": "?"}]), "`prompt[0].role`"),
    Row("a picture in the prompt", "dialog", _pair(prompt=[USER | {"content": [PICTURE]}]), "`prompt[0].content` holds an"),
    Row("a picture in an answer", "dialog", _pair(rejected=[ANSWER | {"content": [PICTURE]}]), "`rejected[0].content`"),
    Row("prompt too long", "dialog", _pair(prompt=LONG), "of `chosen`, no token of its answer is left within 512 tokens"),
    Row("one prompt in the answers too long", "instruct",
        {"chosen": [USER | {"content": LONG}, ANSWER], "rejected": [USER | {"content": LONG}, ANSWER | {"content": "5"}]},
        "of `chosen`, no token of its answer is left"),
]  # fmt: skip


class Request(NamedTuple):
    """A request with another `value` at `path`, which is taken away where it is `...`. The refusal names `pointer`."""

    path: str
    value: Any
    pointer: str
    words: str


NO = ...  # the field is left out

COMMON = [
    Request("job_uuid", "", "/job_uuid", "1 to 256"),
    Request("job_uuid", "x" * 250, "/job_uuid", "is too long"),
    Request("job_uuid", "../x", "/job_uuid", "no segment"),
    Request("job_uuid", "a\nb", "/job_uuid", "printable"),
    Request("job_uuid", NO, "/job_uuid", "required"),
    Request("training_config", NO, TC, "required"),
    Request("hyperparam_search_config", NO, HS, "required"),
    Request("logger_config", NO, LC, "required"),
    Request(f"{TC}/n_epochs", NO, f"{TC}/n_epochs", "required"),
    Request(f"{TC}/n_epochs", 0, f"{TC}/n_epochs", "between 1"),
    Request(f"{TC}/n_epochs", 1.5, f"{TC}/n_epochs", "integer"),
    Request(f"{TC}/n_epochs", "2", f"{TC}/n_epochs", "integer"),
    Request(f"{TC}/n_epochs", 2**31, f"{TC}/n_epochs", "between 1"),
    Request(f"{TC}/max_steps_per_epoch", 0, f"{TC}/max_steps_per_epoch", "or -1 for all"),
    Request(f"{TC}/max_steps_per_epoch", -2, f"{TC}/max_steps_per_epoch", "or -1 for all"),
    Request(f"{TC}/gradient_accumulation_steps", 0, f"{TC}/gradient_accumulation_steps", "between 1"),
    Request(f"{TC}/gradient_accumulation_steps", -1, f"{TC}/gradient_accumulation_steps", "between 1"),
    Request(f"{TC}/max_validation_steps", 0, f"{TC}/max_validation_steps", "or -1 for all"),
    Request(f"{TC}/max_seq_len", 1, f"{TC}/max_seq_len", "between 2"),
    Request(f"{TC}/max_seq_len", 513, f"{TC}/max_seq_len", "at most 512 tokens"),
    Request(f"{TC}/seed", -1, f"{TC}/seed", "between 0"),
    Request(f"{TC}/max_grad_norm", 0, f"{TC}/max_grad_norm", "greater than 0"),
    Request(f"{TC}/lr_schedule", "step", f"{TC}/lr_schedule", "'linear', 'cosine'"),
    Request(f"{TC}/dtype", "int8", f"{TC}/dtype", "one of bf16"),
    Request(f"{TC}/dtype", "fp16", f"{TC}/dtype", "this server trains on a CPU: use bf16"),
    Request(f"{TC}/data_config", NO, DATA, "is required"),
    Request(f"{DATA}/dataset_id", "nowhere", DATASET, "nowhere"),
    Request(f"{DATA}/dataset_id", "nothing", DATASET, "has no rows"),
    Request(f"{DATA}/dataset_id", NO, DATASET, "required"),
    Request(f"{DATA}/validation_dataset_id", "nowhere", f"{DATA}/validation_dataset_id", "nowhere"),
    Request(f"{DATA}/validation_dataset_id", "nothing", f"{DATA}/validation_dataset_id", "has no rows"),
    Request(f"{DATA}/validation_dataset_id", "exam", f"{DATA}/validation_dataset_id", "Row 0 of the dataset exam"),
    Request(f"{DATA}/batch_size", 0, f"{DATA}/batch_size", "between 1"),
    Request(f"{DATA}/batch_size", -4, f"{DATA}/batch_size", "between 1"),
    Request(f"{DATA}/batch_size", True, f"{DATA}/batch_size", "integer"),
    Request(f"{DATA}/shuffle", "yes", f"{DATA}/shuffle", "boolean"),
    Request(f"{DATA}/packed", 1, f"{DATA}/packed", "boolean"),
    Request(f"{DATA}/data_format", "alpaca", f"{DATA}/data_format", "'instruct'"),
    Request(f"{OPTIMIZER}/optimizer_type", "lion", f"{OPTIMIZER}/optimizer_type", "'adamw'"),
    Request(f"{OPTIMIZER}/lr", 0, f"{OPTIMIZER}/lr", "greater than 0"),
    Request(f"{OPTIMIZER}/lr", -1e-4, f"{OPTIMIZER}/lr", "greater than 0"),
    Request(f"{OPTIMIZER}/lr", NO, f"{OPTIMIZER}/lr", "required"),
    Request(f"{OPTIMIZER}/weight_decay", -0.1, f"{OPTIMIZER}/weight_decay", "not be negative"),
    Request(f"{OPTIMIZER}/num_warmup_steps", -1, f"{OPTIMIZER}/num_warmup_steps", "between 0"),
    Request(f"{EFFICIENCY}/memory_efficient_fsdp_wrap", True, f"{EFFICIENCY}/memory_efficient_fsdp_wrap", "workers"),
    Request(f"{EFFICIENCY}/fsdp_cpu_offload", True, f"{EFFICIENCY}/fsdp_cpu_offload", "training_workers"),
    Request("logger_config", {"logger": ["wandb"]}, f"{LC}/logger", "not permitted"),
    Request("logger_config", {"loggers": ["stdout"]}, f"{LC}/loggers/0", "'tensorboard'"),
    Request("logger_config", {"loggers": "mlflow"}, f"{LC}/loggers", "list"),
    Request("logger_config", {"loggers": ["mlflow", "mlflow"]}, f"{LC}/loggers/1", "a second time"),
    Request("logger_config", {"loggers": ["trackio"]}, f"{LC}/loggers/0", "pip install trackio"),
    Request("logger_config", {"run_name": ""}, f"{LC}/run_name", "1 to 256"),
    Request("logger_config", {"project": "../x"}, f"{LC}/project", "no segment"),
    Request("logger_config", {"tags": {"a": 1}}, f"{LC}/tags/a", "string"),
]  # fmt: skip

SUPERVISED = [
    Request("model", "nobody", "/model", "neither registered"),
    Request("model", NO, "/model", "default_training_model"),
    Request("model", "far", "/model", "belongs to the provider"),
    Request("model", "ranker", "/model", "only an llm"),
    Request("checkpoint_dir", "/etc", "/checkpoint_dir", "below the server's checkpoint root"),
    Request("checkpoint_dir", "../out", "/checkpoint_dir", "below the server's checkpoint root"),
    Request("checkpoint_dir", "a/../../out", "/checkpoint_dir", "below the server's checkpoint root"),
    Request("checkpoint_dir", "a\0b", "/checkpoint_dir", "below the server's checkpoint root"),
    Request("checkpoint_dir", "way-out/x", "/checkpoint_dir", "below the server's checkpoint root"),
    Request("checkpoint_dir", "a" * 256, "/checkpoint_dir", "longer than a file system takes it"),
    Request("checkpoint_dir", "a/" * 1900, "/checkpoint_dir", "longer than a file system takes it"),
    Request("checkpoint_dir", "note.txt/run", "/checkpoint_dir", "leads through a file"),
    Request(f"{DATA}/dataset_id", "exam", DATASET, "Row 0 of the dataset exam"),
    Request(f"{DATA}/dataset_id", "late", DATASET, "Row 2000 of the dataset late"),
    Request("algorithm_config", {"type": "LoKr"}, AC, "'LoRA', 'QAT'"),
    Request(f"{AC}/lora_attn_modules", NO, f"{AC}/lora_attn_modules", "required"),
    Request(f"{AC}/rank", 0, f"{AC}/rank", "between 1"),
    Request(f"{AC}/rank", 33, f"{AC}/rank", "at most 32"),
    Request(f"{AC}/alpha", 0, f"{AC}/alpha", "between 1"),
    Request(f"{AC}/alpha", 1.5, f"{AC}/alpha", "integer"),
    Request(f"{AC}/dropout", 1, f"{AC}/dropout", "less than 1"),
    Request(f"{AC}/dropout", -0.1, f"{AC}/dropout", "at least 0"),
    Request(f"{AC}/use_dora", "yes", f"{AC}/use_dora", "boolean"),
    Request(f"{AC}/lora_attn_modules", ["w_proj"], f"{AC}/lora_attn_modules/0", "it has k_proj, o_proj, q_proj, v_proj"),
    Request(f"{AC}/lora_attn_modules", ["q_proj", "up_proj"], f"{AC}/lora_attn_modules/1", "no module 'up_proj'"),
    Request(f"{AC}/lora_attn_modules", "q_proj", f"{AC}/lora_attn_modules", "list"),
    Request("algorithm_config", LORA | {"lora_attn_modules": [], "apply_lora_to_mlp": False}, f"{AC}/lora_attn_modules",
            "nothing would be trained"),
    Request("algorithm_config", {"type": "QAT", "quantizer_name": "fp8", "group_size": 16}, f"{AC}/quantizer_name",
            "one of int8_dynamic_int4"),
    Request("algorithm_config", {"type": "QAT", "quantizer_name": "int4", "group_size": 0}, f"{AC}/group_size", "between 2"),
    Request("algorithm_config", {"type": "QAT", "quantizer_name": "int4", "group_size": 48}, f"{AC}/group_size",
            "must divide the inputs of every linear layer: 32, 64"),
    Request("algorithm_config", {"type": "QAT", "quantizer_name": "int4"}, f"{AC}/group_size", "required"),
]  # fmt: skip

PREFERENCE = [
    Request("finetuned_model", NO, "/finetuned_model", "required"),
    Request("finetuned_model", "nobody", "/finetuned_model", "neither registered"),
    Request("finetuned_model", "ranker", "/finetuned_model", "only an llm"),
    Request("algorithm_config", NO, AC, "required"),
    Request(f"{AC}/beta", 0, f"{AC}/beta", "greater than 0"),
    Request(f"{AC}/beta", -0.1, f"{AC}/beta", "greater than 0"),
    Request(f"{AC}/beta", NO, f"{AC}/beta", "required"),
    Request(f"{AC}/loss_type", "orpo", f"{AC}/loss_type", "'kto_pair'"),
    Request(f"{AC}/lora", LORA | {"rank": 0}, f"{AC}/lora/rank", "between 1"),
    Request(f"{AC}/lora", LORA | {"lora_attn_modules": ["c_attn"]}, f"{AC}/lora/lora_attn_modules/0", "no module"),
    Request(f"{DATA}/dataset_id", "chats", DATASET, "Row 0 of the dataset chats cannot be trained on: `chosen`"),
]  # fmt: skip

LR = {"type": "float", "low": 1e-4, "high": 1e-2}
_LR = f"{OPTIMIZER}/lr"[1:].replace("/", ".")


def _space(**parameters: Any) -> dict[str, Any]:
    return {"space": {name.replace("__", "."): parameter for name, parameter in parameters.items()}}


SEARCHES = [
    ("no space", {"num_trials": 3}, f"{HS}/space", "required"),
    ("an empty space", {"space": {}}, f"{HS}/space", "at least 1"),
    ("an unknown key", {"space": {_LR: LR}, "trials": 3}, f"{HS}/trials", "not permitted"),
    ("no trials", {"space": {_LR: LR}, "num_trials": 0}, f"{HS}/num_trials", "greater than"),
    ("an unknown field", {"space": {"training_config.learning_rate": LR}}, f"{HS}/space/training_config.learning_rate",
     "names no field"),
    ("a field of no section", {"space": {"model": {"type": "categorical", "choices": ["a"]}}}, f"{HS}/space/model",
     "names no field"),
    ("a whole section", {"space": {"training_config.data_config": {"type": "categorical", "choices": [1]}}},
     f"{HS}/space/training_config.data_config", "names no field"),
    ("the dataset", {"space": {"training_config.data_config.dataset_id": {"type": "categorical", "choices": ["chats"]}}},
     f"{HS}/space/training_config.data_config.dataset_id", "all trials read the same rows"),
    ("ends the wrong way round", {"space": {_LR: LR | {"low": 1}}}, f"{HS}/space/{_LR}", "low must not be greater"),
    ("a logarithm of nothing", {"space": {_LR: LR | {"low": 0, "log": True}}}, f"{HS}/space/{_LR}", "greater than 0"),
    ("a logarithm in steps", {"space": {_LR: LR | {"log": True, "step": 0.1}}}, f"{HS}/space/{_LR}", "exclude each other"),
    ("no choices", {"space": {_LR: {"type": "categorical", "choices": []}}}, f"{HS}/space/{_LR}/choices", "at least 1"),
    ("equal choices", {"space": {_LR: {"type": "categorical", "choices": [1, 1]}}}, f"{HS}/space/{_LR}", "differ"),
    ("an unknown type", {"space": {_LR: {"type": "normal"}}}, f"{HS}/space/{_LR}", "'float'"),
    ("fractions of ranks", {"space": {"algorithm_config.rank": LR | {"low": 1, "high": 4}}},
     f"{HS}/space/algorithm_config.rank/type", "must be int or categorical"),
    ("a number for a name", {"space": {"training_config.dtype": {"type": "int", "low": 1, "high": 2}}},
     f"{HS}/space/training_config.dtype/type", "must be categorical"),
    ("a value that is refused", {"space": {"algorithm_config.rank": {"type": "int", "low": 0, "high": 4}}},
     f"{HS}/space/algorithm_config.rank", "between 1"),
    ("a value that the model refuses", {"space": {"algorithm_config.rank": {"type": "int", "low": 4, "high": 64}}},
     f"{HS}/space/algorithm_config.rank", "at most 32"),
    ("a value of no kind", {"space": {"training_config.dtype": {"type": "categorical", "choices": ["fp32", "fp8"]}}},
     f"{HS}/space/training_config.dtype", "one of bf16"),
    ("losses that do not compare", {"space": {"training_config.max_seq_len": {"type": "int", "low": 64, "high": 128}}},
     f"{HS}/space/training_config.max_seq_len", "trials cannot be compared"),
    ("an endless grid", {"space": {_LR: LR}, "sampler": {"type": "grid"}}, f"{HS}/sampler/type", "finitely many values"),
    ("an unknown sampler", {"space": {_LR: LR}, "sampler": {"type": "annealing"}}, f"{HS}/sampler/type", "'tpe'"),
    ("an unknown benchmark",
     {"space": {_LR: LR},
      "objective": {"benchmark_id": "mmlu", "scoring_function": "basic::equality", "aggregation": "accuracy"}},
     f"{HS}/objective/benchmark_id", "mmlu"),
    ("pruning by what is not measured", {"space": {_LR: LR}, "pruning": {"type": "guess"}}, f"{HS}/pruning/type", "'"),
]  # fmt: skip


def _rewrite(folder: Path, file: str, **values: Any) -> None:
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


STRICT_TEMPLATE = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)
MUTE_TEMPLATE = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"

MODELS: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("no weights", lambda f: (f / "model.safetensors").unlink(), "/model", "no safetensors weights"),
    ("pickled weights alone", lambda f: (f / "model.safetensors").rename(f / "model.bin"), "/model", "no safetensors"),
    ("weights cut off", _cut, "/model", "model.safetensors is not whole"),
    ("weights of another kind", lambda f: (f / "model.safetensors").write_bytes(b"PK" * 99), "/model", "are no safetensors"),
    ("empty weights", lambda f: (f / "model.safetensors").write_bytes(b""), "/model", "are no safetensors"),
    ("no configuration", lambda f: (f / "config.json").unlink(), "/model", "no config.json"),
    ("broken configuration", lambda f: (f / "config.json").write_text("{"), "/model", "not readable JSON"),
    ("a classifier", lambda f: _rewrite(f, "config.json", architectures=["BertForSequenceClassification"]), "/model",
     "does not generate text"),
    ("already quantised", lambda f: _rewrite(f, "config.json", quantization_config={}), "/model", "is quantised"),
    ("an adapter from elsewhere", lambda f: _rewrite(f, "config.json", peft_type="LORA"), "/model", "from elsewhere"),
    ("no chat template", lambda f: (f / "chat_template.jinja").unlink(), "/model", "no chat template"),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), "/model", "holds no tokenizer"),
    ("a template that refuses the order", lambda f: (f / "chat_template.jinja").write_text(STRICT_TEMPLATE), DATASET,
     "Row 1 of the dataset turns cannot be trained on: the chat template of the model broken refuses it: user and"),
    ("a template without answers", lambda f: (f / "chat_template.jinja").write_text(MUTE_TEMPLATE), DATASET,
     "Row 0 of the dataset turns cannot be trained on"),
    ("tied embeddings", lambda f: _rewrite(f, "config.json", tie_word_embeddings=True), f"{AC}/apply_lora_to_output",
     "tied"),
]  # fmt: skip


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Resources]:
    resources = wiring.build(Settings(data_dir=tmp_path_factory.mktemp("refusals") / "data"))
    models = resources.inference.models
    models.register(Model("tiny", "local", str(tiny_llama)))
    models.register(Model("far", "lab", "some-model"))
    models.register(Model("ranker", "local", str(tiny_llama), model_type="rerank"))
    add_dataset(resources, "chats", chats(4))
    add_dataset(resources, "pairs", pairs(4))
    add_dataset(resources, "nothing", [])
    add_dataset(resources, "exam", [{"question": "2 + 2?", "answer": "4"}])
    add_dataset(resources, "late", [*chats(2000), {"text": "no such column"}])
    add_dataset(resources, "turns", [_chat(USER, ANSWER), _chat(USER, USER, ANSWER)])
    root = resources.checkpoints.root
    root.mkdir(parents=True, exist_ok=True)
    (root / "note.txt").write_text("a file")
    (root / "way-out").symlink_to(root.parent.parent)
    yield resources
    resources.database.close()


@pytest.fixture(scope="module")
def client(resources: Resources) -> Iterator[TestClient]:
    app = create_app(resources, wake_worker=lambda: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def _good(operation: str, **data: Any) -> dict[str, Any]:
    """A request that is taken."""
    dataset_id = "chats" if operation == SFT else "pairs"
    config = training(dataset_id, validation_dataset_id=dataset_id, max_validation_steps=-1)
    config["data_config"] |= data
    if operation == SFT:
        return copy.deepcopy(sft_request("refused", config))
    return copy.deepcopy(dpo_request("refused", "tiny", config, lora=LORA))


def _with(request: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *sections, name = path.strip("/").split("/")
    inner = request
    for section in sections:
        inner = inner.setdefault(section, {})
    if value is NO:
        del inner[name]
    else:
        inner[name] = value
    return request


def _is_refused(client: TestClient, operation: str, request: dict[str, Any], pointer: str, words: str) -> None:
    answer = client.post(f"/v1alpha/post-training/{operation}", json=request)
    assert answer.status_code == 400, answer.text
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == [pointer], errors
    assert words in errors[0]["message"], errors
    assert client.get("/v1alpha/post-training/job/status", params={"job_uuid": "refused"}).status_code == 404


def _named(cases: list[Row]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def _changed(cases: list[Request]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[f"{case.path}: {case.value!r:.40}" for case in cases])


def _is_row_refused(client: TestClient, resources: Resources, operation: str, case: Row) -> None:
    """The row stands behind good ones, once where it is trained on, and once where it is validated on."""
    dataset_id = f"{operation}: {case.name}"
    good = chats(3) if operation == SFT else pairs(3)
    add_dataset(resources, dataset_id, [*good, case.row])
    words = f"Row 3 of the dataset {dataset_id} cannot be trained on: "
    for field in ("dataset_id", "validation_dataset_id"):
        request = _good(operation, data_format=case.data_format, **{field: dataset_id})
        _is_refused(client, operation, request, f"{DATA}/{field}", words)
        detail = client.post(f"/v1alpha/post-training/{operation}", json=request).json()["detail"]
        assert case.words in detail


@_named(ROWS)
def test_rows_of_conversations(client: TestClient, resources: Resources, case: Row) -> None:
    _is_row_refused(client, resources, SFT, case)


@_named(PREFERENCES)
def test_rows_of_preferences(client: TestClient, resources: Resources, case: Row) -> None:
    _is_row_refused(client, resources, DPO, case)


@pytest.mark.parametrize("operation", [SFT, DPO])
@_changed(COMMON)
def test_requests(client: TestClient, operation: str, case: Request) -> None:
    request = _with(_good(operation), case.path, case.value)
    _is_refused(client, operation, request, case.pointer, case.words)


@_changed(SUPERVISED)
def test_supervised_requests(client: TestClient, case: Request) -> None:
    _is_refused(client, SFT, _with(_good(SFT), case.path, case.value), case.pointer, case.words)


@_changed(PREFERENCE)
def test_preference_requests(client: TestClient, case: Request) -> None:
    _is_refused(client, DPO, _with(_good(DPO), case.path, case.value), case.pointer, case.words)


@pytest.mark.parametrize(
    ("search", "pointer", "words"), [case[1:] for case in SEARCHES], ids=[case[0] for case in SEARCHES]
)
def test_searches(client: TestClient, search: dict[str, Any], pointer: str, words: str) -> None:
    _is_refused(client, SFT, _with(_good(SFT), "hyperparam_search_config", search), pointer, words)


def test_a_search_by_losses_needs_validation(client: TestClient) -> None:
    request = _with(_good(SFT), "hyperparam_search_config", {"space": {_LR: LR}})
    _is_refused(
        client, SFT, _with(request, f"{DATA}/validation_dataset_id", NO), f"{HS}/objective", "needs validation data"
    )


@pytest.mark.parametrize(
    ("damage", "pointer", "words"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS]
)
def test_models(
    client: TestClient,
    resources: Resources,
    tiny_llama: Path,
    tmp_path: Path,
    damage: Callable[[Path], Any],
    pointer: str,
    words: str,
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_llama, folder)
    damage(folder)
    resources.inference.models.register(Model("broken", "local", str(folder)))
    request = _with(_good(SFT, dataset_id="turns", validation_dataset_id=None), "model", "broken")
    if pointer.endswith("output"):
        request["algorithm_config"]["apply_lora_to_output"] = True
    _is_refused(client, SFT, request, pointer, words)
    resources.inference.models.remove("broken")


@pytest.mark.parametrize(
    ("algorithm", "pointer", "package"),
    [
        (LORA | {"quantize_base": True}, f"{AC}/quantize_base", "bitsandbytes"),
        (LORA | {"quantize_base": True, "use_dora": True}, f"{AC}/quantize_base", "accelerate"),
        ({"type": "QAT", "quantizer_name": "int8", "group_size": 16}, f"{AC}/type", "torchao"),
    ],
)
def test_packages_that_are_not_there(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, algorithm: dict[str, Any], pointer: str, package: str
) -> None:
    find_spec = machine.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == package else find_spec(name))
    _is_refused(
        client, SFT, _with(_good(SFT), "algorithm_config", algorithm), pointer, f"{package} is not installed here"
    )


@pytest.mark.parametrize("operation", [SFT, DPO])
def test_unchanged_they_are_taken(client: TestClient, operation: str) -> None:
    request = _good(operation) | {"job_uuid": operation}
    assert client.post(f"/v1alpha/post-training/{operation}", json=request).status_code == 200


@pytest.mark.parametrize(
    ("settings", "operation", "path", "value", "words"),
    [
        ({"training_workers": 2}, SFT, f"{EFFICIENCY}/fsdp_cpu_offload", True, "this server trains on a CPU"),
        ({"training_workers": 2}, DPO, f"{EFFICIENCY}/fsdp_cpu_offload", True, "this server trains on a CPU"),
        ({"training_workers": 2}, SFT, f"{AC}/quantize_base", True, "cannot be split"),
        ({"training_workers": 2}, DPO, f"{AC}/lora/quantize_base", True, "cannot be split"),
        ({"training_workers": 2, "device": "cuda"}, SFT, f"{TC}/dtype", "fp16", "fp16 is for one worker"),
        ({"device": "cpu"}, SFT, f"{TC}/dtype", "float16", "this server trains on a CPU"),
    ],
)
def test_what_this_machine_cannot_do(
    resources: Resources, settings: dict[str, Any], operation: str, path: str, value: Any, words: str
) -> None:
    changed = wiring.build(resources.settings.model_copy(update=settings))
    with TestClient(create_app(changed, wake_worker=lambda: None), base_url="http://127.0.0.1") as client:
        _is_refused(client, operation, _with(_good(operation), path, value), path, words)
    changed.database.close()


def test_the_corpus_is_as_large_as_it_says() -> None:
    num_rows = len(ROWS) + len(PREFERENCES)
    assert num_rows >= 50
    assert num_rows + len(COMMON) + len(SUPERVISED) + len(PREFERENCE) + len(SEARCHES) + len(MODELS) >= 200
