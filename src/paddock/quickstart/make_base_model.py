"""Makes `base_model/`, the small model that the quickstart fine-tunes; run it as a module, `--help` shows its options.

A Llama of 1.25 million parameters on single bytes, trained from nothing on `dates.base_training_rows` in some minutes
of two cores. The same seed, thread count, instruction set and library versions give the same file. The task itself is
in `dates`; fine-tuning the result is post-training's, with the numbers of `plan`.
"""

import argparse
import hashlib
import itertools
import json
import math
import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers import __version__ as tokenizers_version
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paddock.quickstart import dates

BASE_MODEL = Path(__file__).parent / "base_model"

# In the order of their ids, after the 256 bytes.
SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, BOS, END, SYSTEM, USER, ASSISTANT = range(256, 256 + len(SPECIAL_TOKENS))

# On one line, so that it renders the same with and without trim_blocks. A role that it doesn't know speaks as user.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% elif message['role'] == 'system' %}<|system|>{{ message['content'] }}<|end|>"
    "{% else %}<|user|>{{ message['content'] }}<|end|>"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

IGNORED = -100  # the label of a token that bears no loss
MAX_POSITIONS = 1024


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, its id the byte's value; no merges, so any text survives the round trip."""
    tokenizer = Tokenizer(models.BPE(vocab=_byte_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS[0],
        bos_token=SPECIAL_TOKENS[1],
        eos_token=SPECIAL_TOKENS[2],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
        padding_side="left",
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Under the class name that every release of transformers knows; version 5 writes one that older ones do not."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(config, indent=2) + "\n")


def _byte_vocabulary() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, to that byte: printable ones stand for themselves."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    stand_ins = itertools.count(256)
    return {chr(byte if byte in printable else next(stand_ins)): byte for byte in range(256)}


def make_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=256 + len(SPECIAL_TOKENS),
        hidden_size=160,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        intermediate_size=416,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def encode(row: dates.Row) -> tuple[list[int], list[int]]:
    """Ids and labels of a messages row, as the chat template gives them but some fifty times faster."""
    ids, labels = [BOS], [IGNORED]
    for message in row["messages"]:
        content = list(message["content"].encode())
        if message["role"] == "assistant":
            ids += [ASSISTANT, *content, END]
            labels += [IGNORED, *content, END]
        else:
            turn = [SYSTEM if message["role"] == "system" else USER, *content, END]
            ids += turn
            labels += [IGNORED] * len(turn)
    return ids, labels


def batches(num_steps: int, batch_size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels, each [batch, time], padded at the right; rows of like length share a batch."""
    rng = random.Random(seed)
    encoded = map(encode, dates.base_training_rows(num_steps * batch_size, seed))
    while window := list(itertools.islice(encoded, batch_size * 16)):
        window.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(window), batch_size))
        rng.shuffle(starts)
        for start in starts:
            batch = window[start : start + batch_size]
            longest = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [PAD] * (longest - len(ids)) for ids, _ in batch]),
                torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in batch]),
            )


def train(model: LlamaForCausalLM, num_steps: int, batch_size: int, peak_lr: float, seed: int) -> None:
    """AdamW with warm-up and cosine decay, in fp32, on the answers' tokens alone."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=(0.9, 0.98))
    num_warmup_steps = 100
    started = time.monotonic()
    for step, (ids, labels) in enumerate(batches(num_steps, batch_size, seed)):
        progress = max(0.0, (step - num_warmup_steps) / (num_steps - num_warmup_steps))
        lr = (
            peak_lr * min(1.0, (step + 1) / num_warmup_steps) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        # No attention mask: padding is at the right, where a causal model's answers can't see it.
        hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
        targets = labels[:, 1:]
        of_answer = targets != IGNORED
        loss = cross_entropy(model.lm_head(hidden[of_answer]), targets[of_answer])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == num_steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}  lr {lr:.2e}  {time.monotonic() - started:.0f} s", flush=True)


def num_correct(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exam: list[dates.Row]) -> int:
    """How many of the exam's questions are answered exactly, by greedy generation."""
    chats = [[{"role": "user", "content": row["question"]}] for row in exam]
    prompts = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        outputs = model.generate(**prompts, do_sample=False, max_new_tokens=16)
    answers = tokenizer.batch_decode(outputs[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(answer == row["answer"] for answer, row in zip(answers, exam, strict=True))


def provenance(arguments: argparse.Namespace, folder: Path, scores: dict[str, str], seconds: float) -> dict[str, Any]:
    return {
        "licence": "Apache-2.0",
        "author": "the Paddock authors; trained from random weights on generated text, no other data or model in it",
        "command": "python -m paddock.quickstart.make_base_model "
        + " ".join(f"--{name} {value}" for name, value in vars(arguments).items() if name != "out"),
        **{name: value for name, value in vars(arguments).items() if name != "out"},
        "seconds": round(seconds),
        "exact_match": scores,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers_version,
        },
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "tokenizer.json")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BASE_MODEL)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    started = time.monotonic()
    tokenizer = make_tokenizer()
    model = make_model()
    train(model, arguments.steps, arguments.batch, arguments.lr, arguments.seed)

    model.to(torch.bfloat16)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD, do_sample=False, max_new_tokens=32
    )
    model.save_pretrained(arguments.out)
    save_tokenizer(tokenizer, arguments.out)

    # Judged as it will be loaded: from the rounded file, not from the weights in memory.
    loaded = LlamaForCausalLM.from_pretrained(arguments.out, dtype=torch.float32).eval()
    exams = {"known forms": dates.known_forms_exam(), "new form": dates.new_form_exam()}
    scores = {name: f"{num_correct(loaded, tokenizer, exam)}/{len(exam)}" for name, exam in exams.items()}
    record = provenance(arguments, arguments.out, scores, time.monotonic() - started)
    (arguments.out / "PROVENANCE.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
