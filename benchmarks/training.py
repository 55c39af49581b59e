"""How fast post-training is: this project's recipes beside TRL's trainers and a plain loop, on one and the same work.

    python benchmarks/training.py [--runs 5] [--steps 10] [--threads 1] [--only sft,trl-packed]

A random Llama (30.9 M weights on a CPU, 1.2 G on a GPU) learns rows of very different lengths, 114 tokens on average and at
most 512, about a thousand a step. Model, rows, optimiser (AdamW on float32 weights), optimiser steps, tokens a step, maximum
length and computing type (bfloat16) are the same for all, and every token bears a loss, so that nobody is ahead by not
learning prompts. Each run is a process of its own, the contenders take turns, and between any two the rate of large matrix
products is measured.

Counted are real tokens, without padding, a second of processor time (of GPU time by the clock), from the loaded model to
the end: with its checks, log, reference log-probabilities, resume points and checkpoint in ours, `trainer.train()` in TRL.
Utilisation is the operations that those tokens need (`usage.Costs`) a second, as a share of that rate: no contender's
detours count as work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

MAX_LENGTH = 512
ROWS_A_STEP, PACKS_A_STEP, PAIRS_A_STEP = 9, 2, 4
LORA_RANK, LORA_ALPHA, BETA, LEARNING_RATE = 16, 32, 0.1, 1e-4
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES = {
    "cpu": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 16},
}
NUM_WORDS = 10_240 - 4
TEMPLATE = (
    "{% for m in messages %}{{ '<|user|>' if m['role'] == 'user' else '<|assistant|>' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MARKS_A_ROW = 4  # who speaks, and the end, for each of two turns


# ------------------------------------------------------------------------------------------------- model and rows


def make_model(folder: Path, device: str) -> None:
    """A random Llama, its output layer tied to the embeddings, and a tokenizer that takes each word for a token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    words = {word: index for index, word in enumerate([*special, *(f"w{i}" for i in range(NUM_WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    shape = SHAPES[device] | {"num_key_value_heads": SHAPES[device]["num_attention_heads"]}
    config = LlamaConfig(
        vocab_size=len(words),
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def words(rng: random.Random, count: int) -> str:
    """Words of which few are frequent, so that there is something to learn."""
    return " ".join(f"w{int(NUM_WORDS ** rng.random()) - 1}" for _ in range(count))


def length(rng: random.Random) -> int:
    """Tokens of a row: 114 on average, half of them below 85, some 512."""
    return max(16, min(MAX_LENGTH, round(rng.lognormvariate(4.44, 0.8))))


def make_rows(folder: Path, num_steps: int) -> None:
    rng = random.Random(0)
    chats, pairs = [], []
    for _ in range((num_steps + 2) * (ROWS_A_STEP + 1)):
        num_words = length(rng) - MARKS_A_ROW
        asked = rng.randint(2, num_words - 2)
        turns = [("user", words(rng, asked)), ("assistant", words(rng, num_words - asked))]
        chats.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    for _ in range(num_steps * PAIRS_A_STEP):
        num_words = length(rng) - MARKS_A_ROW
        asked = rng.randint(2, num_words - 2)
        other = rng.randint(2, MAX_LENGTH - MARKS_A_ROW - asked)
        answers = [num_words - asked, min(other, 2 * (num_words - asked))]
        rng.shuffle(answers)
        chosen, rejected = (words(rng, count) for count in answers)
        pairs.append({"prompt": words(rng, asked), "chosen": chosen, "rejected": rejected})
    (folder / "chats.json").write_text(json.dumps(chats))
    (folder / "pairs.json").write_text(json.dumps(pairs))


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())
    return rows


# ------------------------------------------------------------------------------------------------- contenders
# Each returns what it trained on (real tokens), the seconds that took, and its losses step by step.


class Clock:
    """Seconds of processor time, of all threads; on a GPU, of real time."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda.is_available()
        self._started = self._now()

    def _now(self) -> float:
        if not self._cuda:
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self) -> float:
        return self._now() - self._started


def ours(folder: Path, steps: int, kind: str, dtype: str) -> dict[str, Any]:
    """A job of the product: submitted, claimed and run as its own process does."""
    import torch

    from paddock import wiring
    from paddock.datasets.registration import register_entry
    from paddock.datasets.sources import Access
    from paddock.inference.engine import Model
    from paddock.jobs.progress import Progress
    from paddock.post_training import adapters, job
    from paddock.post_training.schemas import PreferenceOptimizeRequest, SupervisedFineTuneRequest
    from paddock.settings import Settings

    data_dir = Path(tempfile.mkdtemp(dir=folder))
    resources = wiring.build(Settings(data_dir=data_dir, num_threads=torch.get_num_threads()))
    resources.inference.models.register(Model("pupil", "local", str(folder / "model")))
    is_sft = kind == "sft"
    source = {"type": "rows", "rows": read_rows(folder, "chats" if is_sft else "pairs")}
    entry = {"dataset_id": "rows", "purpose": "post-training/messages", "source": source}
    register_entry(resources.datasets, Access(), entry)
    data = {"dataset_id": "rows", "shuffle": True, "data_format": "dialog", "train_on_input": is_sft, "packed": is_sft}
    training = {
        "n_epochs": 1,
        "max_steps_per_epoch": steps,
        "data_config": data | {"batch_size": PACKS_A_STEP if is_sft else PAIRS_A_STEP},
        "optimizer_config": {
            **{"optimizer_type": "adamw", "lr": LEARNING_RATE, "weight_decay": 0.0, "num_warmup_steps": 0},
        },
        "lr_schedule": "linear",
        "dtype": dtype,
        "max_seq_len": MAX_LENGTH,
    }
    common = {"job_uuid": "job", "training_config": training, "hyperparam_search_config": {}, "logger_config": {}}
    stores = (resources.settings, resources.jobs, resources.datasets, resources.checkpoints)
    if is_sft:
        request = SupervisedFineTuneRequest.model_validate(common | {"model": "pupil"})
        job.submit_supervised(request, *stores, resources.inference, resources.scores)
    else:
        lora = {"type": "LoRA", "lora_attn_modules": LINEAR[:4], "apply_lora_to_mlp": True}
        lora |= {"apply_lora_to_output": False, "rank": LORA_RANK, "alpha": LORA_ALPHA}
        algorithm = {"beta": BETA, "loss_type": "sigmoid", "lora": lora}
        wish = PreferenceOptimizeRequest.model_validate(
            common | {"finetuned_model": "pupil", "algorithm_config": algorithm}
        )
        job.submit_preference(wish, *stores, resources.inference, resources.scores)
    clocks = []
    load = adapters.load

    def load_then_start(*args: Any, **named: Any) -> Any:
        trainee = load(*args, **named)
        clocks.append(Clock())
        return trainee

    adapters.load = load_then_start
    claimed = resources.jobs.claim(worker_id="benchmark", lease_seconds=3600)
    assert claimed is not None
    progress = Progress(claimed, resources.jobs)
    job.run(progress, resources.settings, resources.datasets, resources.checkpoints, resources.inference)
    seconds = clocks[0].seconds()
    told = resources.jobs.get("job").resources
    assert told is not None
    losses = [point["loss"] for point in resources.jobs.metrics("job")]
    assert len(losses) == steps
    return {"num_tokens": told["num_tokens"], "seconds": seconds, "losses": losses, "flops": told["model_flops"]}


def tokenized(folder: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return [
        tokenizer.apply_chat_template(row["messages"], return_dict=False)[:MAX_LENGTH]
        for row in read_rows(folder, "chats")
    ]


def plain(folder: Path, steps: int, dtype: str) -> dict[str, Any]:
    """The loop that one writes by hand: packs as batches, positions that restart, logits for all, torch's own loss."""
    import torch
    from transformers import AutoModelForCausalLM

    from paddock.post_training import batches

    rows = tokenized(folder)
    packs = batches.pack_rows([len(row) for row in rows], MAX_LENGTH, shuffle=True, seed=0)
    lengths = [sum(len(rows[n]) for n in pack) for pack in packs]
    order = batches.steps_of_epoch(lengths, PACKS_A_STEP, 1, shuffle=True, seed=0, epoch=0)[:steps]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    clock, losses, num_tokens = Clock(), [], 0
    for step, ((numbers,), lr) in enumerate(zip(order, (LEARNING_RATE * (1 - s / steps) for s in range(steps)))):
        width = max(lengths[n] for n in numbers)
        ids, labels, positions = (torch.full((len(numbers), width), fill) for fill in (0, -100, 0))
        for b, n in enumerate(numbers):
            joined = [token for row in packs[n] for token in rows[row]]
            num_tokens += len(joined)
            ids[b, : len(joined)] = torch.tensor(joined)
            labels[b, : len(joined)] = torch.tensor([t for row in packs[n] for t in (-100, *rows[row][1:])])
            places = [place for row in packs[n] for place in range(len(rows[row]))]
            positions[b] = torch.tensor(places + list(range(width - len(places))))
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten().to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"num_tokens": num_tokens, "seconds": clock.seconds(), "losses": losses}


def trl_sft(folder: Path, steps: int, **settings: Any) -> dict[str, Any]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=SFTConfig(**_trl_arguments(folder, steps, ROWS_A_STEP) | settings),
        train_dataset=Dataset.from_list(read_rows(folder, "chats")),
    )
    return _trained(trainer)


def trl_dpo(folder: Path, steps: int, **settings: Any) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    def turn(role: str, content: str) -> list[dict[str, str]]:
        return [{"role": role, "content": content}]

    pairs = [
        {
            "prompt": turn("user", pair["prompt"]),
            "chosen": turn("assistant", pair["chosen"]),
            "rejected": turn("assistant", pair["rejected"]),
        }
        for pair in read_rows(folder, "pairs")
    ]
    trainer = DPOTrainer(
        model=str(folder / "model"),
        args=DPOConfig(beta=BETA, **_trl_arguments(folder, steps, PAIRS_A_STEP) | settings),
        train_dataset=Dataset.from_list(pairs),
        peft_config=LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=LINEAR, task_type="CAUSAL_LM"),
    )
    return _trained(trainer)


def _trl_arguments(folder: Path, steps: int, batch_size: int) -> dict[str, Any]:
    """What makes the work the same; all else is as TRL has it."""
    import torch

    return {
        "output_dir": tempfile.mkdtemp(dir=folder),
        "max_steps": steps,
        "max_length": MAX_LENGTH,
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": batch_size,
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }


def _trained(trainer: Any) -> dict[str, Any]:
    num_tokens, step = 0, trainer.training_step

    def counting_step(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        nonlocal num_tokens
        # Packs come without a mask, as they have no padding.
        num_tokens += int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else inputs["input_ids"].numel()
        return step(model, inputs, *rest)

    trainer.training_step = counting_step
    clock = Clock()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"num_tokens": num_tokens, "seconds": clock.seconds(), "losses": losses}


CONTENDERS: dict[str, Callable[[Path, int, str], dict[str, Any]]] = {
    "sft": lambda folder, steps, dtype: ours(folder, steps, "sft", dtype),
    "plain": plain,
    "trl": lambda folder, steps, dtype: trl_sft(folder, steps),
    # The best of its settings for packs: without the recomputing of activations that is its default.
    "trl-packed": lambda folder, steps, dtype: trl_sft(
        folder,
        steps,
        packing=True,
        gradient_checkpointing=False,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=PACKS_A_STEP,
    ),
    "trl-packed-joined": lambda folder, steps, dtype: trl_sft(
        folder,
        steps,
        packing=True,
        gradient_checkpointing=False,
        per_device_train_batch_size=PACKS_A_STEP,
    ),
    "trl-wrapped": lambda folder, steps, dtype: trl_sft(
        folder,
        steps,
        packing=True,
        packing_strategy="wrapped",
        gradient_checkpointing=False,
        per_device_train_batch_size=PACKS_A_STEP,
    ),
    "dpo": lambda folder, steps, dtype: ours(folder, steps, "dpo", dtype),
    "trl-dpo": lambda folder, steps, dtype: trl_dpo(folder, steps),
    "trl-dpo-best": lambda folder, steps, dtype: trl_dpo(folder, steps, gradient_checkpointing=False),
}


def main() -> None:
    name, folder, steps, dtype, threads = sys.argv[2:]
    import torch
    torch.set_num_threads(int(threads))
    result = CONTENDERS[name](Path(folder), int(steps), dtype)
    print(json.dumps(result))

if __name__ == "__main__":
    if sys.argv[1] == "--make":
        f = Path(sys.argv[2]); f.mkdir(exist_ok=True)
        make_model(f / "model", "cpu"); make_rows(f, int(sys.argv[3]))
    else:
        main()
