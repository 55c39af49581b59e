"""How many tokens a local model makes for a CPU-second: sixteen prompts at once over HTTP, beside transformers' `generate`.

    python benchmarks/generation.py [--runs 3]

The model is a random Llama of 31 million weights, in float32, one thread; 64 new tokens a prompt, chosen greedily. Beside
ours, in turn and in the same run: `generate` one prompt after the other, and `generate` on a batch padded on the left. Ours
counts the processor time of the server and of its engine together, theirs that of `generate` alone; loading is nobody's.
All three must make the same tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import aiohttp
import psutil
import yaml

NUM_PROMPTS, NUM_NEW_TOKENS = 16, 64
NUM_WORDS = 5632
PROMPTS = [
    " ".join(f"w{(17 * prompt + 31 * word) % (NUM_WORDS - 1) + 1}" for word in range(24 + 6 * prompt))
    for prompt in range(NUM_PROMPTS)
]

# ---------------------------------------------------------------------------------------------------- the model


def make_model(folder: Path) -> int:
    """A Llama whose tokens are words, so that a text tells its tokens. Returns the number of weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=NUM_WORDS, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=1024, bos_token_id=None, eos_token_id=None, pad_token_id=0, initializer_range=0.05,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    words = {f"w{number}": number for number in range(NUM_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", padding_side="left").save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------- theirs


def peer(folder: Path, connection: Connection) -> None:
    """`generate` in a process of its own: for each `batch` size that comes, texts and processor seconds go back."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    while (batch_size := connection.recv()) is not None:
        started_at = time.process_time()
        texts = []
        for start in range(0, NUM_PROMPTS, batch_size):
            rows = tokenizer(PROMPTS[start : start + batch_size], padding=True, return_tensors="pt")
            rows.pop("token_type_ids", None)
            made = model.generate(**rows, max_new_tokens=NUM_NEW_TOKENS, min_new_tokens=NUM_NEW_TOKENS, do_sample=False)
            texts += tokenizer.batch_decode(made[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
        connection.send((texts, time.process_time() - started_at))


@contextmanager
def transformers_process(folder: Path) -> Iterator[Callable[[int], tuple[list[str], float]]]:
    context = multiprocessing.get_context("spawn")
    ours, other = context.Pipe()
    process = context.Process(target=peer, args=(folder, other))
    process.start()

    def run(batch_size: int) -> tuple[list[str], float]:
        ours.send(batch_size)
        texts, seconds = ours.recv()
        return texts, seconds

    try:
        yield run
    finally:
        ours.send(None)
        process.join(10)
        process.kill()


# ---------------------------------------------------------------------------------------------------- ours


@contextmanager
def paddock(folder: Path, model: Path) -> Iterator[Callable[[int], tuple[list[str], float]]]:
    settings = {
        "port": 0,
        "num_threads": 1,
        "registered_resources": {
            "models": [{"model_id": "m", "provider_id": "local", "provider_model_id": str(model)}]
        },
    }
    (folder / "paddock.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "log"
    command = [sys.executable, "-m", "paddock", "serve", "--config", str(folder / "paddock.yaml")]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--data-dir", str(folder / "data")], stdout=output, stderr=output)
    try:
        while "Paddock serves " not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        url = log.read_text().partition("Paddock serves ")[2].split()[0]

        def run(num_clients: int) -> tuple[list[str], float]:
            before = cpu_seconds(process.pid)
            texts = asyncio.run(ask(url, num_clients))
            return texts, cpu_seconds(process.pid) - before

        yield run
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """The processor time of a server and of its engine so far."""
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(found.user + found.system for found in times)


async def ask(url: str, num_clients: int) -> list[str]:
    """All prompts, so many at once."""
    turns = asyncio.Semaphore(num_clients)
    knobs: dict[str, Any] = {"model": "m", "max_tokens": NUM_NEW_TOKENS, "temperature": 0}

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def one(prompt: str) -> str:
            async with turns, session.post(f"{url}/v1/completions", json=knobs | {"prompt": prompt}) as answer:
                body = await answer.json()
                assert body["usage"]["completion_tokens"] == NUM_NEW_TOKENS, body
                text: str = body["choices"][0]["text"]
                return text

        return list(await asyncio.gather(*map(one, PROMPTS)))


# ---------------------------------------------------------------------------------------------------- the whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        num_weights = make_model(folder / "model")
        import transformers

        machine = f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
        print(f"{machine}, transformers {transformers.__version__}, load {psutil.getloadavg()[0]:.1f}")
        print(f"{num_weights / 1e6:.1f} M weights, {NUM_PROMPTS} prompts, {NUM_NEW_TOKENS} new tokens each, one thread")
        with paddock(folder, folder / "model") as ours, transformers_process(folder / "model") as theirs:
            ways = {
                "ours over HTTP, 16 at once": (ours, NUM_PROMPTS),
                "generate, one by one": (theirs, 1),
                "generate, a batch padded left": (theirs, NUM_PROMPTS),
            }
            said: dict[str, list[str]] = {}
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for run in range(options.runs + 1):
                for name, (way, number) in ways.items():
                    said[name], took = way(number)
                    if run:  # the first one warms up
                        seconds[name].append(took)
    first, *others = ([text.split() for text in texts] for texts in said.values())
    rates = {name: NUM_PROMPTS * NUM_NEW_TOKENS / statistics.median(took) for name, took in seconds.items()}
    for name, rate in rates.items():
        spread = f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f} CPU s"
        print(f"{name:<32}{rate:>8.0f} tokens/CPU s   ours is {rates[next(iter(ways))] / rate:.2f} times   ({spread})")
    print(f"the same tokens in all three: {'yes' if all(other == first for other in others) else 'NO'}")


if __name__ == "__main__":
    main()
