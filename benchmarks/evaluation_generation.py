"""How fast a local model answers an evaluation's rows, beside lm-evaluation-harness and beside transformers' `generate`.

    python benchmarks/evaluation_generation.py --peer-python /tmp/peer/bin/python [--rows 200] [--runs 3] [--threads 1 2]

The harness gets an environment of its own, with the torch and the transformers that Paddock has:

    python -m venv /tmp/peer
    /tmp/peer/bin/pip install 'lm_eval[hf]==0.4.13' torch==2.13.0 transformers==5.23.0 accelerate==1.15.0

The model is a random Llama of 31 million weights in float32; prompts have 8 to 207 tokens, answers at most 32, chosen
greedily and cut at a stop sequence that some of them come to. Every answer of every way is compared with ours.

ours         the rows by `evaluate_rows` over HTTP, and as a whole job: from its submission to `completed`, results durable
harness      `simple_evaluate` of a task over the same rows with the `hf` model, and of that `generate_until` alone; with its
             default batch size 1, with 16, and with `auto`, whose search for a batch size is told apart
generate     a plain loop: rows sorted by length, sixteen at a time, padded on the left, each row ended by the stop sequence

All are warm, in processes of their own, and take turns; a way that takes minutes does so once. Processor time is that of the
server, its engine and its job together, of theirs that of their process: on a busy machine it is the figure to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HARNESS_VERSION = "0.4.13"
NUM_WORDS = 5632
NUM_NEW_TOKENS = 32
STOP = "w7"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class Run(NamedTuple):
    """Answers, and seconds: of the whole by the clock and of the processor, and of the generation in it by the clock."""

    answers: list[str]
    seconds: float
    cpu_seconds: float
    generation_seconds: float | None = None


Way = Callable[[], Run]


def questions(num_rows: int) -> list[str]:
    """Prompts whose lengths are mixed, and whose order says nothing of them."""
    return [
        " ".join(f"w{(17 * row + 31 * word) % (NUM_WORDS - 1) + 1}" for word in range(8 + 77 * row % 200))
        for row in range(num_rows)
    ]


def make_model(folder: Path) -> int:
    """A Llama whose tokens are words, and the padding, which it never says. Returns the number of weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    end, padding = NUM_WORDS, NUM_WORDS + 1
    config = LlamaConfig(
        vocab_size=NUM_WORDS + 2, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=512, bos_token_id=None, eos_token_id=end, pad_token_id=padding, initializer_range=0.05,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[padding] = 0.0  # of so many words one always has a logit over 0
    model.save_pretrained(folder)
    words = {f"w{number}": number for number in range(NUM_WORDS)} | {"</s>": end, "<pad>": padding}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    saved = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )
    saved.chat_template = TEMPLATE
    saved.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------- theirs


def serve_peer(folder: Path, way: str, num_threads: int, output: Any) -> None:
    """In a process of a peer's: load, say so, and do a run for each line that comes."""
    import torch

    torch.set_num_threads(num_threads)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    run = plain_loop(folder / "model", rows) if way == "generate" else harness(folder, way)
    print(json.dumps("ready"), file=output, flush=True)
    for _ in sys.stdin:
        started_at, cpu_started_at = time.perf_counter(), time.process_time()
        answers, generation_seconds = run()
        seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_started_at
        print(json.dumps([answers, seconds, cpu_seconds, generation_seconds]), file=output, flush=True)


def plain_loop(model_folder: Path, rows: list[dict[str, str]]) -> Callable[[], tuple[list[str], float | None]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    prompts = [row["question"] for row in rows]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))

    def run() -> tuple[list[str], float | None]:
        answers = [""] * len(prompts)
        for start in range(0, len(order), 16):
            chunk = order[start : start + 16]
            inputs = tokenizer([prompts[row] for row in chunk], padding=True, return_tensors="pt")
            num_columns = inputs["input_ids"].shape[1]

            def is_done(ids: torch.Tensor, _scores: Any, start: int = num_columns, **_: Any) -> torch.Tensor:
                return torch.tensor(
                    [STOP in text for text in tokenizer.batch_decode(ids[:, max(start, ids.shape[1] - 2) :])]
                )

            made = model.generate(**inputs, max_new_tokens=NUM_NEW_TOKENS, do_sample=False, stopping_criteria=[is_done])
            texts = tokenizer.batch_decode(made[:, num_columns:], skip_special_tokens=True)
            for row, text in zip(chunk, texts, strict=True):
                answers[row] = text.partition(STOP)[0]
        return answers, None

    return run


def harness(folder: Path, batch_size: str) -> Callable[[], tuple[list[str], float | None]]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    assert lm_eval.__version__ == HARNESS_VERSION, f"lm_eval is {lm_eval.__version__}"
    model = HFLM(pretrained=str(folder / "model"), dtype="float32", device="cpu", batch_size=batch_size)
    seconds = {"generate_until": 0.0, "_detect_batch_size": 0.0}

    def timed(name: str) -> None:
        function = getattr(model, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            started_at = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started_at

        setattr(model, name, wrapped)

    timed("generate_until")
    timed("_detect_batch_size")
    task = {
        "task": "exam",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [STOP], "max_gen_toks": NUM_NEW_TOKENS, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }

    def run() -> tuple[list[str], float | None]:
        seconds.update(dict.fromkeys(seconds, 0.0))
        found = lm_eval.simple_evaluate(model=model, tasks=[task], log_samples=True, bootstrap_iters=0)
        samples = sorted(found["samples"]["exam"], key=lambda sample: sample["doc_id"])
        generation_seconds = seconds["generate_until"] - seconds["_detect_batch_size"]
        return [sample["resps"][0][0] for sample in samples], generation_seconds

    return run


@contextmanager
def peer(python: str, folder: Path, way: str, num_threads: int) -> Iterator[Way]:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(num_threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment |= {"HF_HOME": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)
    log = folder / f"log-{way}-{num_threads}"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [python, __file__, "--as-peer", str(folder), way, "--threads", str(num_threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def read() -> Any:
        line = process.stdout.readline()
        assert line, log.read_text()[-3000:]
        return json.loads(line)

    def run() -> Run:
        process.stdin.write("\n")
        process.stdin.flush()
        return Run(*read())

    try:
        read()
        yield run
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


# ---------------------------------------------------------------------------------------------------- ours


@contextmanager
def paddock(folder: Path, num_threads: int, rows: list[dict[str, str]]) -> Iterator[tuple[Way, Way]]:
    """A server with the model and the rows: the run of `evaluate_rows`, and that of a job."""
    import httpx
    import psutil
    import yaml

    home = folder / f"paddock-{num_threads}"
    home.mkdir()
    model = {"model_id": "pupil", "provider_id": "local", "provider_model_id": str(folder / "model")}
    settings = {"port": 0, "num_threads": num_threads, "registered_resources": {"models": [model]}}
    (home / "paddock.yaml").write_text(yaml.safe_dump(settings))
    log = home / "log"
    command = [sys.executable, "-m", "paddock", "serve", "--config", str(home / "paddock.yaml")]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--data-dir", str(home / "data")], stdout=output, stderr=output)
    try:
        while "Paddock serves " not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        url = log.read_text().partition("Paddock serves ")[2].split()[0]
        sampling = {"strategy": {"type": "greedy"}, "max_tokens": NUM_NEW_TOKENS, "stop": [STOP]}
        config = {"eval_candidate": {"type": "model", "model": "pupil", "sampling_params": sampling}}
        with httpx.Client(base_url=url, timeout=1800) as http:
            source = {"type": "rows", "rows": rows}
            body: dict[str, Any] = {"dataset_id": "exam", "purpose": "eval/question-answer", "source": source}
            http.post("/v1beta/datasets", json=body).raise_for_status()
            body = {"benchmark_id": "bench", "dataset_id": "exam", "scoring_functions": ["basic::equality"]}
            http.post("/v1alpha/eval/benchmarks", json=body).raise_for_status()

            def cpu_seconds() -> float:
                # With those of its children that have ended, as a job's process has.
                server = psutil.Process(process.pid)
                ended = server.cpu_times()
                alive = [child.cpu_times() for child in server.children(recursive=True)]
                total = ended.user + ended.system + ended.children_user + ended.children_system
                return float(total + sum(times.user + times.system for times in alive))

            def measured(evaluate: Callable[[], list[dict[str, Any]]]) -> Run:
                started_at, cpu_started_at = time.perf_counter(), cpu_seconds()
                generations = evaluate()
                seconds, spent = time.perf_counter() - started_at, cpu_seconds() - cpu_started_at
                return Run([generation["generated_answer"] for generation in generations], seconds, spent)

            def at_once() -> list[dict[str, Any]]:
                body = {"scoring_functions": ["basic::equality"], "benchmark_config": config, "input_rows": rows}
                answer = http.post("/v1alpha/eval/benchmarks/bench/evaluations", json=body)
                return list(answer.raise_for_status().json()["generations"])

            def as_job() -> list[dict[str, Any]]:
                jobs = "/v1alpha/eval/benchmarks/bench/jobs"
                job_id = http.post(jobs, json=config).raise_for_status().json()["job_id"]
                while (job := http.get(f"{jobs}/{job_id}").json())["status"] != "completed":
                    assert job["status"] in ("scheduled", "in_progress"), job
                    time.sleep(0.05)
                return list(http.get(f"{jobs}/{job_id}/result").json()["generations"])

            yield lambda: measured(at_once), lambda: measured(as_job)
    finally:
        process.terminate()
        process.wait(30)


# ---------------------------------------------------------------------------------------------------- the whole


def told(name: str, num_threads: int, way: Way) -> Run:
    """A run, told on standard error: the table comes many minutes later."""
    run = way()
    print(f"{num_threads} threads, {name}: {run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU s", file=sys.stderr)
    return run


def compare(folder: Path, options: argparse.Namespace, num_threads: int, rows: list[dict[str, str]]) -> None:
    with ExitStack() as stack:
        at_once, as_job = stack.enter_context(paddock(folder, num_threads, rows))
        ways = {"ours, evaluate_rows": at_once, "ours, a job": as_job}
        ways["generate, 16 sorted by length"] = stack.enter_context(
            peer(sys.executable, folder, "generate", num_threads)
        )
        slow: dict[str, Way] = {}
        if options.peer_python:
            ways["harness, batch 16"] = stack.enter_context(peer(options.peer_python, folder, "16", num_threads))
            for size in () if options.quick else ("1", "auto"):
                slow[f"harness, batch {size}"] = stack.enter_context(
                    peer(options.peer_python, folder, size, num_threads)
                )
        runs: dict[str, list[Run]] = {name: [] for name in [*ways, *slow]}
        for number in range(options.runs + 1):
            for name, way in ways.items():
                run = told(name, num_threads, way)
                if number:  # the first one warms up
                    runs[name].append(run)
        for name, way in slow.items():
            runs[name].append(told(name, num_threads, way))
    print(f"\nthreads: {num_threads}")
    print(f"{'':<32}{'whole s':>9}{'generation s':>14}{'CPU s':>8}{'rows/CPU s':>12}{'ours is':>9}   rows that differ")
    expected = runs["ours, a job"][0].answers
    ours = statistics.median(run.cpu_seconds for run in runs["ours, a job"])
    for name, of_way in runs.items():
        whole = statistics.median(run.seconds for run in of_way)
        cpu = statistics.median(run.cpu_seconds for run in of_way)
        generation = [run.generation_seconds for run in of_way if run.generation_seconds is not None]
        shown = f"{statistics.median(generation):.1f}" if generation else ""
        num_differing = max(sum(a != b for a, b in zip(run.answers, expected, strict=True)) for run in of_way)
        spread = f"{min(run.cpu_seconds for run in of_way):.1f} to {max(run.cpu_seconds for run in of_way):.1f} CPU s"
        print(
            f"{name:<32}{whole:>9.1f}{shown:>14}{cpu:>8.1f}{len(rows) / cpu:>12.1f}{cpu / ours:>8.2f}x   {num_differing}   "
            f"({len(of_way)} run{'s' * (len(of_way) > 1)}, {spread})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--peer-python", default=os.environ.get("PEER_PYTHON"), help="the Python of an environment with lm_eval"
    )
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="leave out the harness's batch sizes 1 and auto")
    parser.add_argument("--as-peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        # What libraries print goes to the log; the pipe is for answers.
        output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        serve_peer(Path(options.as_peer[0]), options.as_peer[1], options.threads[0], output)
        return
    import psutil
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        num_weights = make_model(folder / "model")
        rows = [{"question": question, "answer": "w1"} for question in questions(options.rows)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, load {psutil.getloadavg()[0]:.1f}")
        print(
            f"{num_weights / 1e6:.1f} M weights, {len(rows)} rows, at most {NUM_NEW_TOKENS} new tokens each, greedy, float32"
        )
        if not options.peer_python:
            print(
                "NOT COMPARED WITH lm-evaluation-harness: give --peer-python (the head of this file says how to make one)."
            )
        for num_threads in options.threads:
            compare(folder, options, num_threads, rows)


if __name__ == "__main__":
    main()
