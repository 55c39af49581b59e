"""The bundled base model: it is the file its provenance names, small, and its tokenizer and template are sound."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from paddock.quickstart import dates

BASE_MODEL = Path(dates.__file__).parent / "base_model"
CHAT = [
    {"role": "system", "content": "You write dates as ISO 8601."},
    {"role": "user", "content": "5 March 2024"},
    {"role": "assistant", "content": "2024-03-05"},
    {"role": "user", "content": "and 6 März?"},
    {"role": "assistant", "content": "2024-03-06"},
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(BASE_MODEL)


def test_files_are_those_of_the_provenance() -> None:
    provenance = json.loads((BASE_MODEL / "PROVENANCE.json").read_text())
    for name, sha256 in provenance["sha256"].items():
        assert hashlib.sha256((BASE_MODEL / name).read_bytes()).hexdigest() == sha256, name
    assert provenance["licence"] == "Apache-2.0"


def test_scores_on_record() -> None:
    """What the quickstart needs of its base: it knows the known forms, and not the new one."""
    scores = json.loads((BASE_MODEL / "PROVENANCE.json").read_text())["exact_match"]
    correct = {name: int(score.split("/")[0]) / int(score.split("/")[1]) for name, score in scores.items()}
    assert correct["known forms"] > 0.9
    assert correct["new form"] < 0.2


def test_size() -> None:
    assert sum(file.stat().st_size for file in BASE_MODEL.iterdir()) <= 4 * 2**20
    with (BASE_MODEL / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"} == {"BF16"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5.III.2024",
        "the 5th of March, '24",
        "line\nbreak\r\n\ttab  two  ",
        "März 日本語 🐎 é é \u200d\x00\x7f",
        " ,a . b ! it 's",
    ],
)
def test_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_tokenizers_alone_reads_it() -> None:
    tokenizer = Tokenizer.from_file(str(BASE_MODEL / "tokenizer.json"))
    assert tokenizer.encode("5 März").ids == list("5 März".encode())
    assert tokenizer.encode("<|user|>a<|end|>").tokens == ["<|user|>", "a", "<|end|>"]
    assert tokenizer.decode(list("5 März".encode())) == "5 März"


def test_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 262
    generation = json.loads((BASE_MODEL / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")
    assert generation["pad_token_id"] == tokenizer.pad_token_id
    assert generation["max_new_tokens"] <= 64


def test_generation_mask_is_the_answers_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    masked = list(itertools.compress(encoded["input_ids"], encoded["assistant_masks"]))
    assert tokenizer.decode(masked) == "2024-03-05<|end|>2024-03-06<|end|>"


def test_generation_prompt_is_a_prefix_of_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = tokenizer.apply_chat_template(CHAT[:4], add_generation_prompt=True, tokenize=False)
    assert prompt.endswith("<|end|><|assistant|>")
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == prompt + "2024-03-06<|end|>"


def test_template_needs_neither_trimming_nor_our_functions(tokenizer: PreTrainedTokenizerFast) -> None:
    """Bare Jinja in the strictest sandbox renders what transformers renders, the generation tags aside."""
    source = tokenizer.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    rendered = ImmutableSandboxedEnvironment().from_string(source).render(messages=CHAT, bos_token="<|bos|>")
    assert rendered == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_training_encoding_is_the_templates(tokenizer: PreTrainedTokenizerFast) -> None:
    from paddock.quickstart.make_base_model import IGNORED, encode

    ids, labels = encode({"messages": CHAT})
    encoded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    assert ids == encoded["input_ids"]
    assert [label != IGNORED for label in labels] == [bool(of_answer) for of_answer in encoded["assistant_masks"]]


def test_it_answers_a_known_form() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    model = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    chat = [{"role": "user", "content": "Write as ISO 8601: March 5, 2024"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "2024-03-05<|end|>"
