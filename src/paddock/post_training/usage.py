"""What a training costs: steps, tokens, memory and floating-point operations, estimated before its first step and measured
from then on. It is what `resources_allocated` holds."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paddock.post_training import memory
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.post_training.resume import State
from paddock.post_training.tokens import IGNORED, TokenizedRow

log = logging.getLogger("paddock.training")

_REPORT_EVERY_SECONDS = 10.0
_STEPS_BEFORE_FORECAST = 10

_MATMUL_SECONDS = 0.2
_MATMUL_SIZES = {"cpu": 1024, "cuda": 8192}


def attention_shape(config: Any) -> tuple[int, int]:
    """A model's number of layers, and the width of all its attention heads together."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return text.num_hidden_layers, heads * head_size


class Costs:
    """Floating-point operations of training on rows, counted as PaLM's appendix B does (Chowdhery et al. 2022,
    arXiv:2204.02311): 6N + 12·L·H·Q·T for each token, where all N weights are trained; L layers, H heads of size Q, T
    tokens in its row. Of the 6N, 2N are the forward pass, 2N the gradients of activations, and 2N those of weights, which
    only trained weights have. The output layer counts for tokens that bear a loss, a look-up in the embeddings never."""

    def __init__(self, trainee: Trainee) -> None:
        model = trainee.model
        output, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        apart = {id(weight): weight for weight in (output, embedding)}
        trained = {id(weight): weight.numel() for weight in trainee.trained.values()}
        inner = trainee.num_parameters - sum(weight.numel() for weight in apart.values())
        inner_trained = sum(number for key, number in trained.items() if key not in apart)
        self._per_token = 4 * inner + 2 * inner_trained
        self._per_label = 4 * output.numel() + 2 * trained.get(id(output), 0)
        layers, width = attention_shape(model.config)
        self._per_square = 12 * layers * width

    def of(self, rows: Sequence[TokenizedRow]) -> float:
        """Of one forward and backward pass over rows that do not see each other."""
        num_tokens = sum(len(row) for row in rows)
        num_labels = sum(len(row) - row.labels.count(IGNORED) for row in rows)
        squares = sum(len(row) ** 2 for row in rows)
        return float(self._per_token * num_tokens + self._per_label * num_labels + self._per_square * squares)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a large product of matrices on this machine now, in operations a second: what utilisation is a
    share of. A quick measure; what else the machine is doing lowers it."""
    size = _MATMUL_SIZES[device.type]
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    best, ends_at = 0.0, time.monotonic() + _MATMUL_SECONDS
    with torch.no_grad():
        torch.mm(matrix, matrix)
        while time.monotonic() < ends_at or best == 0.0:
            _wait_for(device)
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            _wait_for(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_bytes(device: torch.device) -> int:
    """What this process holds now: on the GPU, or, without one, of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Meter:
    """What one attempt has used, and has still to do."""

    def __init__(
        self,
        attempt: Attempt,
        trainee: Trainee,
        rows: Sequence[Sequence[TokenizedRow]],
        steps: Sequence[Sequence[Sequence[int]]],
        total: int,
    ) -> None:
        """`rows` are those of each example, `steps` the examples of the first epoch's batches, `total` all steps."""
        self._attempt = attempt
        self._trainee = trainee
        self._rows = rows
        self._total = total
        self._costs = Costs(trainee)
        self._matmul_rate = matmul_rate(attempt.device, trainee.compute)
        self._estimate = self._estimated(steps)
        self._started_at = self._reported_at = time.monotonic()
        self._num_steps_here = 0
        log.info(
            "To do: %d steps on about %d tokens, in about %.2g GB of memory. The machine multiplies %.3g GFLOP/s in %s.",
            *(total, self._estimate["num_tokens"], self._estimate["memory_bytes"] / 1e9),
            *(self._matmul_rate / 1e9, attempt.config.dtype),
        )

    def took_step(self, step: Sequence[Sequence[int]], state: State) -> None:
        """Count a step over these batches of examples, and say now and then how things stand."""
        state.flops += sum(self._costs.of(self._rows[number]) for batch in step for number in batch)
        self._num_steps_here += 1
        is_due = time.monotonic() - self._reported_at >= _REPORT_EVERY_SECONDS
        if self._num_steps_here == _STEPS_BEFORE_FORECAST or is_due:
            self.report(state)
        if self._num_steps_here == _STEPS_BEFORE_FORECAST:
            log.info("After %d steps: about %.0f s to go.", state.step, self._remaining_seconds(state) or 0)

    def report(self, state: State) -> None:
        """Store what the job runs on, how much it used, and how fast it is."""
        self._reported_at = time.monotonic()
        attempt, trainee = self._attempt, self._trainee
        if not attempt.team.is_first:
            return
        device, started_at = attempt.device, attempt.progress.job.started_at
        is_cuda = device.type == "cuda"
        rate = state.flops / state.seconds if state.seconds else None
        attempt.progress.set_resources(
            device=torch.cuda.get_device_name(device) if is_cuda else device.type,
            num_workers=attempt.team.size,
            num_threads=torch.get_num_threads(),
            dtype=attempt.config.dtype,
            num_parameters=trainee.num_parameters,
            weight_bytes=trainee.num_weight_bytes,
            num_trainable_parameters=sum(p.numel() for p in trainee.trained.values()),
            num_tokens=state.num_tokens,
            tokens_per_second=round(state.num_tokens / state.seconds, 1) if state.seconds else None,
            training_seconds=round(state.seconds, 3),
            wall_seconds=None if started_at is None else round(time.time() - started_at, 3),
            remaining_seconds=self._remaining_seconds(state),
            model_flops=state.flops,
            matmul_flops_per_second=round(self._matmul_rate),
            model_flops_utilisation=None if rate is None else round(rate / self._matmul_rate / attempt.team.size, 4),
            # Linux counts kibibytes here.
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            peak_device_memory_bytes=torch.cuda.max_memory_allocated(device) if is_cuda else None,
            offloaded_bytes=None if trainee.offload is None else trainee.offload.peak_bytes,
            gathered_weight_bytes=None if trainee.shards is None else trainee.shards.peak_whole_bytes,
            exact_resume=state.is_exact,
            estimate=self._estimate,
        )

    def _remaining_seconds(self, state: State) -> float | None:
        """At the pace of this attempt, with its validations and checkpoints; None as long as that is not known."""
        if self._num_steps_here < _STEPS_BEFORE_FORECAST:
            return None
        pace = (time.monotonic() - self._started_at) / self._num_steps_here
        return round((self._total - state.step) * pace, 3)

    def _estimated(self, steps: Sequence[Sequence[Sequence[int]]]) -> dict[str, int]:
        tokens = [sum(len(row) for row in rows) for rows in self._rows]
        num_tokens = sum(tokens[number] for step in steps for batch in step for number in batch)
        return {
            "num_steps": self._total,
            "num_tokens": round(num_tokens * self._total / len(steps)),
            "memory_bytes": memory.peak_bytes(
                self._trainee,
                memory_bytes(self._attempt.device),
                [[[row for number in batch for row in self._rows[number]] for batch in step] for step in steps],
                optimizer_type=self._attempt.config.optimizer.optimizer_type,
            ),
        }
