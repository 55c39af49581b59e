"""How fast post-training is: the recipes of this project beside TRL's trainers and a plain loop, on one and the same work.

    python benchmarks/training.py [--runs 5] [--steps 8] [--threads 1] [--only sft,plain]

A random Llama (30.9 M weights; 1.1 G where there is a GPU) learns rows of very different lengths: 114 tokens on average, at
most 512, about a thousand a step (four times as many on a GPU). Model, rows, optimiser (AdamW on float32 weights), optimiser
steps, tokens a step, maximum length and computing type (bfloat16) are the same for all. In fine-tuning every token bears a
loss, so that nobody is ahead by leaving prompts out. Each run is a process of its own; the contenders take turns, and
before each the rate of a large product of matrices is measured.

Counted are real tokens, without padding, a second of processor time (on a GPU: of time), from the loaded model to the end:
in ours with its checks, series, reference log-probabilities, resume points and checkpoint, in TRL `trainer.train()`.
Utilisation is what those tokens need, by PaLM's count (`usage.Costs`), as a share of that rate: nobody's detours are work.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = {
    "cpu": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 21, "num_attention_heads": 16},
}[DEVICE]
STRETCH = {"cpu": 1, "cuda": 4}[DEVICE]
MAX_LENGTH = 512 * STRETCH
ROWS_A_STEP, PACKS_A_STEP, PAIRS_A_STEP = 9, 2, 4
LORA_RANK, LORA_ALPHA, BETA, LEARNING_RATE = 16, 32, 0.1, 1e-4
ATTENTION, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]

SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
NUM_WORDS = 10_240 - len(SPECIAL)
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MARKS_A_ROW = 4  # who speaks, and the end, of each of two turns

# ---------------------------------------------------------------------------------------------------- model and rows


def make_model(folder: Path) -> None:
    """A random Llama, its output layer tied to the embeddings, and a tokenizer that takes each word for a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *(f"w{i}" for i in range(NUM_WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        num_key_value_heads=SHAPE["num_attention_heads"],
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        **SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_rows(folder: Path, num_steps: int) -> None:
    """Enough chats and pairs for so many steps, however they are packed."""
    rng = random.Random(0)

    def words(count: int) -> str:
        # Few of them frequent, so that there is something to learn.
        return " ".join(f"w{int(NUM_WORDS ** rng.random()) - 1}" for _ in range(count))

    def num_words() -> int:
        # With its marks 114 on average, half of them below 85.
        return max(12, min(MAX_LENGTH - MARKS_A_ROW, round(STRETCH * rng.lognormvariate(4.44, 0.8)) - MARKS_A_ROW))

    chats, pairs = [], []
    for _ in range((num_steps + 2) * (ROWS_A_STEP + 1)):
        count = num_words()
        asked = rng.randint(2, count - 2)
        turns = [("user", words(asked)), ("assistant", words(count - asked))]
        chats.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    for _ in range((num_steps + 1) * PAIRS_A_STEP):
        count = num_words()
        asked = rng.randint(2, count - 2)
        other = min(2 * (count - asked), rng.randint(2, MAX_LENGTH - MARKS_A_ROW - asked))
        chosen, rejected = (words(length) for length in rng.sample([count - asked, other], 2))
        pairs.append({"prompt": words(asked), "chosen": chosen, "rejected": rejected})
    (folder / "chats.json").write_text(json.dumps(chats))
    (folder / "pairs.json").write_text(json.dumps(pairs))


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())
    return rows


# ---------------------------------------------------------------------------------------------------- contenders
# Each trains for some steps and returns its real tokens (`num_tokens`), the `seconds` that took, and its `losses`.


class Clock:
    """Seconds of processor time, of all threads; on a GPU, of time."""

    def __init__(self) -> None:
        self._started = self._now()

    @staticmethod
    def _now() -> float:
        if DEVICE == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self) -> float:
        return self._now() - self._started


def ours(kind: str, folder: Path, steps: int, dtype: str = "bf16") -> dict[str, Any]:
    """A job: submitted, claimed, and done as the worker's child does it."""
    from paddock import wiring
    from paddock.datasets.registration import register_entry
    from paddock.datasets.sources import Access
    from paddock.inference.engine import Model
    from paddock.jobs.progress import Progress
    from paddock.post_training import adapters, job
    from paddock.post_training.schemas import PreferenceOptimizeRequest, SupervisedFineTuneRequest
    from paddock.settings import Settings

    settings = Settings(data_dir=Path(tempfile.mkdtemp(dir=folder)), num_threads=torch.get_num_threads())
    resources = wiring.build(settings)
    resources.inference.models.register(Model("pupil", "local", str(folder / "model")))
    is_sft = kind == "sft"
    source = {"type": "rows", "rows": read_rows(folder, "chats" if is_sft else "pairs")}
    entry = {"dataset_id": "rows", "purpose": "post-training/messages", "source": source}
    register_entry(resources.datasets, Access(), entry)
    data = {"dataset_id": "rows", "shuffle": True, "data_format": "dialog", "packed": is_sft, "train_on_input": is_sft}
    asked: dict[str, Any] = {
        "job_uuid": "job",
        "hyperparam_search_config": {},
        "logger_config": {},
        "training_config": {
            "n_epochs": 1,
            "max_steps_per_epoch": steps,
            "data_config": data | {"batch_size": PACKS_A_STEP if is_sft else PAIRS_A_STEP},
            "optimizer_config": {
                "optimizer_type": "adamw",
                "lr": LEARNING_RATE,
                "weight_decay": 0.0,
                "num_warmup_steps": 0,
            },
            "dtype": dtype,
            "max_seq_len": MAX_LENGTH,
        },
    }
    stores = (settings, resources.jobs, resources.datasets, resources.checkpoints, resources.inference)
    if is_sft:
        request = SupervisedFineTuneRequest.model_validate(asked | {"model": "pupil"})
        job.submit_supervised(request, *stores, resources.scores)
    else:
        lora = {"type": "LoRA", "lora_attn_modules": ATTENTION, "apply_lora_to_mlp": True}
        lora |= {"apply_lora_to_output": False, "rank": LORA_RANK, "alpha": LORA_ALPHA}
        asked |= {"finetuned_model": "pupil", "algorithm_config": {"beta": BETA, "loss_type": "sigmoid", "lora": lora}}
        job.submit_preference(PreferenceOptimizeRequest.model_validate(asked), *stores, resources.scores)
    clocks: list[Clock] = []
    load = adapters.load

    def load_and_start(*given: Any, **named: Any) -> Any:
        trainee = load(*given, **named)
        clocks.append(Clock())
        return trainee

    adapters.load = load_and_start
    claimed = resources.jobs.claim(worker_id="benchmark", lease_seconds=3600)
    assert claimed is not None
    progress = Progress(claimed, resources.jobs)
    job.run(progress, settings, resources.datasets, resources.checkpoints, resources.inference)
    seconds = clocks[0].seconds()
    used = resources.jobs.get("job").resources
    assert used is not None
    losses = [point["loss"] for point in resources.jobs.metrics("job")]
    assert len(losses) == steps
    return {
        "num_tokens": used["num_tokens"],
        "seconds": seconds,
        "losses": losses,
        "flops_a_token": used["model_flops"] / used["num_tokens"],
    }


def plain(folder: Path, steps: int, dtype: str = "bf16") -> dict[str, Any]:
    """The loop that one writes by hand, over the batches of ours: positions that restart, all logits, torch's own loss."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from paddock.post_training import batches

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    chats = [row["messages"] for row in read_rows(folder, "chats")]
    rows = [tokenizer.apply_chat_template(messages, return_dict=False) for messages in chats]
    packs = batches.pack_rows([len(row) for row in rows], MAX_LENGTH, shuffle=True, seed=0)
    lengths = [sum(len(rows[number]) for number in pack) for pack in packs]
    order = batches.steps_of_epoch(lengths, PACKS_A_STEP, 1, shuffle=True, seed=0, epoch=0)[:steps]
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    clock, losses, num_tokens = Clock(), [], 0
    for step, (numbers,) in enumerate(order):
        shape = (len(numbers), max(lengths[number] for number in numbers))
        ids, labels, positions = torch.zeros(3, *shape, dtype=torch.long).unbind()
        labels.fill_(-100)
        for b, number in enumerate(numbers):
            joined = [token for row in packs[number] for token in rows[row]]
            ids[b, : len(joined)] = torch.tensor(joined)
            labels[b, : len(joined)] = torch.tensor([t for row in packs[number] for t in (-100, *rows[row][1:])])
            places = [place for row in packs[number] for place in range(len(rows[row]))]
            positions[b] = torch.tensor([*places, *range(shape[1] - len(joined))])
            num_tokens += len(joined)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(input_ids=ids.to(DEVICE), position_ids=positions.to(DEVICE), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten().to(DEVICE)
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"num_tokens": num_tokens, "seconds": clock.seconds(), "losses": losses}


def trl_sft(folder: Path, steps: int, **settings: Any) -> dict[str, Any]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=SFTConfig(**trl_arguments(folder, steps, ROWS_A_STEP) | settings),
        train_dataset=Dataset.from_list(read_rows(folder, "chats")),
    )
    return trained_by(trainer)


def trl_dpo(folder: Path, steps: int, **settings: Any) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    pairs = [
        {name: [{"role": role, "content": pair[name]}] for name, role in roles.items()}
        for pair in read_rows(folder, "pairs")
    ]
    trainer = DPOTrainer(
        model=str(folder / "model"),
        args=DPOConfig(beta=BETA, **trl_arguments(folder, steps, PAIRS_A_STEP) | settings),
        train_dataset=Dataset.from_list(pairs),
        peft_config=LoraConfig(
            r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"
        ),
    )
    return trained_by(trainer)


def trl_arguments(folder: Path, steps: int, batch_size: int) -> dict[str, Any]:
    """What makes the work the same; all else is as TRL has it."""
    return {
        "output_dir": tempfile.mkdtemp(dir=folder),
        "max_steps": steps,
        "max_length": MAX_LENGTH,
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": batch_size,
        "use_cpu": DEVICE == "cpu",
        "disable_tqdm": True,
    }


def trained_by(trainer: Any) -> dict[str, Any]:
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


PACKED = {"packing": True, "gradient_checkpointing": False, "per_device_train_batch_size": PACKS_A_STEP}
CONTENDERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "sft": partial(ours, "sft"),
    "plain": plain,
    "trl": trl_sft,
    # Packing at its best: without the recomputing of activations that is TRL's default, whole rows and cut ones.
    "trl-packed": partial(trl_sft, **PACKED),
    "trl-wrapped": partial(trl_sft, packing_strategy="wrapped", **PACKED),
    "dpo": partial(ours, "dpo"),
    "trl-dpo": trl_dpo,
    "trl-dpo-best": partial(trl_dpo, gradient_checkpointing=False),
    # For the comparison of losses alone.
    "sft-fp32": partial(ours, "sft", dtype="fp32"),
    "plain-fp32": partial(plain, dtype="fp32"),
}
NAMES = {
    "sft": "SFT, packed: ours",
    "plain": "SFT, packed: plain loop",
    "trl": "SFT: TRL's defaults",
    "trl-packed": "SFT: TRL, packing=True",
    "trl-wrapped": "SFT: TRL, packed across rows",
    "dpo": "DPO with LoRA: ours",
    "trl-dpo": "DPO with LoRA: TRL's defaults",
    "trl-dpo-best": "DPO with LoRA: TRL at its best",
}
OURS = {"sft": ("plain", "trl", "trl-packed", "trl-wrapped"), "dpo": ("trl-dpo", "trl-dpo-best")}

# ---------------------------------------------------------------------------------------------------- the whole


def matmul_rate() -> float:
    """The best of some large products in bfloat16, in operations a second of the clock above."""
    size = {"cpu": 1024, "cuda": 8192}[DEVICE]
    matrix = torch.ones(size, size, device=DEVICE, dtype=torch.bfloat16)
    torch.mm(matrix, matrix)
    best = 0.0
    for _ in range(40):
        clock = Clock()
        torch.mm(matrix, matrix)
        best = max(best, 2 * size**3 / clock.seconds())
    return best


def run(name: str, folder: Path, steps: int, threads: int) -> dict[str, Any]:
    """One run in a process of its own."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--as", name, str(folder), str(steps), str(threads)]
    ended = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=1800)
    assert ended.returncode == 0, ended.stderr[-4000:]
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def measure(folder: Path, names: list[str], options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    rates = []
    for _ in range(options.runs):
        for name in names:
            rates.append(matmul_rate())
            runs[name].append(found := run(name, folder, options.steps, options.threads))
            print(
                f"  {NAMES[name]}: {found['num_tokens'] / found['seconds']:.0f} tokens/s", file=sys.stderr, flush=True
            )
    rate = statistics.median(rates)
    speeds = {name: [r["num_tokens"] / r["seconds"] for r in results] for name, results in runs.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s in bfloat16, median of {len(rates)}")
    print(
        f"{'median of ' + str(options.runs):<34}{'tokens/s':>10}{'from':>9}{'to':>9}{'of matmul':>11}{'tokens/step':>13}"
    )
    for own, others in OURS.items():
        if own not in names:
            continue
        flops = runs[own][0]["flops_a_token"]
        for name in (own, *(other for other in others if other in names)):
            tokens_a_step = runs[name][0]["num_tokens"] / options.steps
            print(
                f"{NAMES[name]:<34}{medians[name]:>10.0f}{min(speeds[name]):>9.0f}{max(speeds[name]):>9.0f}"
                f"{medians[name] * flops / rate:>11.1%}{tokens_a_step:>13.0f}"
            )
        for other in others:
            if other in names:
                print(f"  ours / {NAMES[other].partition(': ')[2]:<24}{medians[own] / medians[other]:>9.2f}")
    if "sft" in names and "plain" in names:
        print(
            f"loss curves of ours and the plain loop, largest difference in bf16: {_apart(runs['sft'][0], runs['plain'][0])}"
        )
        exact = [run(name, folder, options.steps, options.threads) for name in ("sft-fp32", "plain-fp32")]
        print(f"loss curves of ours and the plain loop, largest difference in fp32: {_apart(*exact)}")


def _apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    return f"{max(abs(a - b) for a, b in zip(one['losses'], other['losses'], strict=True)):.1e}"


def main() -> None:
    if sys.argv[1:2] == ["--as"]:
        name, folder, steps, threads = sys.argv[2:]
        torch.set_num_threads(int(threads))
        print(json.dumps(CONTENDERS[name](Path(folder), int(steps))))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {','.join(NAMES)}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()}, {psutil.cpu_count()} cores"
    print(f"{machine}, {options.threads} threads, torch {torch.__version__}, load {psutil.getloadavg()[0]:.1f}")
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        make_rows(folder, options.steps)
        measure(folder, [name for name in NAMES if name in options.only.split(",")], options)


if __name__ == "__main__":
    main()
