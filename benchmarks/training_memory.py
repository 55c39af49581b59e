"""How far the estimate of a training's memory is from what it takes, on a CPU: for some ways of training and two sizes of
batches each, the peak that was estimated before the first step and the one that was measured.

    PYTHONPATH=tests python benchmarks/training_memory.py [--case lora]

Each is a job in a process of its own. What counts is what training adds to the libraries and the weights, which are there
when the estimate is made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

from training_office import LORA, add_dataset, dpo_request, run, sft_request, training

NUM_STEPS = 4
BATCH_SIZES = (2, 8)
ROW = "word " * 40  # as many bytes are as many tokens

CASES: dict[str, dict[str, Any]] = {
    "lora": {"algorithm": LORA, "dtype": "fp32"},
    "lora, bf16": {"algorithm": LORA, "dtype": "bf16"},
    "lora, recomputed": {
        "algorithm": LORA,
        "dtype": "fp32",
        "efficiency_config": {"enable_activation_checkpointing": True},
    },
    "dora": {"algorithm": LORA | {"use_dora": True}, "dtype": "fp32"},
    "full": {"algorithm": None, "dtype": "fp32"},
    "full, bf16": {"algorithm": None, "dtype": "bf16"},
    "qat": {"algorithm": {"type": "QAT", "quantizer_name": "int8_dynamic_int4", "group_size": 32}, "dtype": "fp32"},
    "dpo with lora": {"lora": LORA, "dtype": "fp32"},
    "dpo with lora, bf16": {"lora": LORA, "dtype": "bf16"},
    "dpo": {"lora": None, "dtype": "fp32"},
}


def make_model(folder: Path, *, vocabulary: int) -> None:
    """A Llama of 12 million weights, and as many as its vocabulary takes, with the tokenizer of bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tiny_models import save_byte_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    save_byte_tokenizer(folder)


def request(case: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """A few steps on rows of one length."""
    asked = dict(case)
    config = training("rows", n_epochs=1, batch_size=batch_size, max_steps_per_epoch=NUM_STEPS)
    if "algorithm" in asked:
        algorithm = asked.pop("algorithm")
        return sft_request("job", config | asked, algorithm_config=algorithm)
    lora = asked.pop("lora")
    return dpo_request("job", "tiny", config | asked, **({} if lora is None else {"lora": lora}))


def rows(count: int) -> list[dict[str, Any]]:
    """For both kinds of training."""
    prompt = [{"role": "user", "content": "?" * 20}]
    return [
        {
            "messages": [*prompt, {"role": "assistant", "content": f"{ROW}{index % 10}"}],
            "prompt": prompt,
            "chosen": f"{ROW}{index % 10}",
            "rejected": f"{ROW}x",
        }
        for index in range(count)
    ]


def measure(folder: Path, model: Path, asked: dict[str, Any]) -> dict[str, int]:
    """Do the job in this process. Returns the bytes that it held when the estimate was made (`held`), those that were
    `estimated` and those of the `peak` from then on."""
    from paddock import wiring
    from paddock.inference.engine import Model
    from paddock.post_training import usage
    from paddock.settings import Settings

    resources = wiring.build(Settings(data_dir=folder))
    resources.inference.models.register(Model("tiny", "local", str(model)))
    add_dataset(resources, "rows", rows(NUM_STEPS * max(BATCH_SIZES)))
    estimated = usage.Meter._estimated
    held: list[int] = []

    def estimate(meter: usage.Meter, *args: Any) -> dict[str, int]:
        held.append(usage.memory_bytes(meter._attempt.device))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
        return estimated(meter, *args)

    usage.Meter._estimated = estimate  # type: ignore[method-assign]
    used = run(resources, asked).resources
    assert used is not None
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    return {"held": held[0], "estimated": used["estimate"]["memory_bytes"], "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        folder, model, case, batch_size = arguments.child
        print(json.dumps(measure(Path(folder), Path(model), request(CASES[case], int(batch_size)))))
        return
    print(
        f"{'MB beside what was held':<26}{'batch':>6}{'held':>8}{'estimated':>11}{'measured':>10}{'error':>8}{'of all':>8}"
    )
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model"
        make_model(model, vocabulary=arguments.vocabulary)
        for case in [arguments.case] if arguments.case else CASES:
            for batch_size in BATCH_SIZES:
                data_dir = Path(name) / f"{case} {batch_size}"
                child = [sys.executable, __file__, "--child", str(data_dir), str(model), case, str(batch_size)]
                done = subprocess.run(child, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                estimated, measured = (found[key] - found["held"] for key in ("estimated", "peak"))
                error, of_all = estimated / measured - 1, found["estimated"] / found["peak"] - 1
                megabytes = f"{found['held'] / 1e6:>8.0f}{estimated / 1e6:>11.0f}{measured / 1e6:>10.0f}"
                print(f"{case:<26}{batch_size:>6}{megabytes}{error:>+8.0%}{of_all:>+8.0%}", flush=True)


if __name__ == "__main__":
    main()
