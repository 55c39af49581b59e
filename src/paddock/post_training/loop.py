"""The training loop, the same for every recipe: steps, epochs, validation, checkpoints, resume points, progress.

A recipe says what a batch is and how its loss is measured; nothing here knows of answers or preferences. A step's loss
is a sum over all of its batches, divided once: accumulating gradients over several small batches is one large batch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paddock.errors import PaddockError
from paddock.jobs.progress import StopRequestedError
from paddock.post_training import batches, checkpoints, optimizers, usage
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.post_training.batches import Batch
from paddock.post_training.resume import ResumePoints, State
from paddock.post_training.tokens import TokenizedRow

log = logging.getLogger("paddock.training")

_MAX_NAMED_ROWS = 32
_MAX_EXPONENT = 700.0  # e to the power of more is no float


@dataclass(frozen=True)
class Measured:
    """A batch's loss: `loss_sum` over `num` tokens or pairs. `answer_log_prob` is the sum over `num_answer_tokens`, for
    the perplexity; `sums` are other figures, each to be divided by `num`."""

    loss_sum: Tensor
    num: int
    answer_log_prob: float
    num_answer_tokens: int
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """What is trained or validated on: `rows` and `lengths` of its examples, `collate` some of them (by number) to a batch,
    `weigh` a batch (how many tokens or pairs its loss is a sum over), `measure` its loss."""

    rows: Sequence[Sequence[TokenizedRow]]
    lengths: Sequence[int]
    collate: Callable[[Sequence[int]], Batch]
    weigh: Callable[[Batch], int]
    measure: Callable[[Batch], Measured]


class Validated(NamedTuple):
    """`loss` is the recipe's, in the mean over all tokens or pairs; `perplexity` that of the answers' tokens."""

    loss: float
    perplexity: float


def train(
    attempt: Attempt,
    trainee: Trainee,
    tokenizer: Any,
    optimizer: Any,
    training: Split,
    validation: Split | None,
    points: ResumePoints,
    state: State,
) -> None:
    """Go on from `state` to the end, publishing a checkpoint after each epoch."""
    config, progress = attempt.config, attempt.progress
    steps_per_epoch = batches.num_steps(
        len(training.lengths), config.batch_size, config.num_accumulated_batches, config.max_steps_per_epoch
    )
    total = steps_per_epoch * config.num_epochs
    log.info("%d epochs of %d steps each (max_steps_per_epoch, 1 by default).", config.num_epochs, steps_per_epoch)
    published = {checkpoint.epoch for checkpoint in attempt.checkpoints.of_job(attempt.job_id)}
    meter = usage.Meter(attempt, trainee, training.rows, epoch_steps(attempt, training, 0), total)
    meter.report(state)
    trainee.model.train()
    while state.epoch < config.num_epochs:
        steps = epoch_steps(attempt, training, state.epoch)
        while state.step_in_epoch < steps_per_epoch:
            examples = steps[state.step_in_epoch]
            _step(attempt, trainee, optimizer, training, examples, state, total)
            meter.took_step(examples, state)
            progress.report(state.step, total, "steps")
            points.save_if_due(state)
            if progress.should_stop:
                points.save(state)
                progress.check_stop()
        if state.epoch + 1 not in published:
            train_loss = state.loss_sum / state.num_losses
            try:
                metrics = None if validation is None else _metrics(attempt, trainee, validation, state, train_loss)
            except StopRequestedError:
                points.save(state)
                raise
            log.info("Epoch %d: training loss %.4f, %s", state.epoch + 1, train_loss, metrics or "not validated")
            checkpoints.publish(attempt, trainee, tokenizer, epoch=state.epoch + 1, metrics=metrics)
        state.next_epoch()
        meter.report(state)
        if state.epoch < config.num_epochs:
            points.save(state)
            progress.check_stop()
    with progress.write() as connection:
        attempt.checkpoints.drop_resume_point(connection, attempt.job_id)


def epoch_steps(attempt: Attempt, training: Split, epoch: int) -> list[list[list[int]]]:
    """The steps of an epoch (from 0): each a list of batches, each a list of examples' numbers."""
    config = attempt.config
    steps = batches.steps_of_epoch(
        training.lengths,
        config.batch_size,
        config.num_accumulated_batches,
        shuffle=config.shuffle,
        seed=config.seed,
        epoch=epoch,
    )
    return steps[: config.max_steps_per_epoch]


def _step(
    attempt: Attempt,
    trainee: Trainee,
    optimizer: Any,
    training: Split,
    examples: list[list[int]],
    state: State,
    total: int,
) -> None:
    """One optimiser step over its batches."""
    started = time.monotonic()
    step_batches = [training.collate(numbers) for numbers in examples]
    num = sum(training.weigh(batch) for batch in step_batches)
    loss_sum = 0.0
    sums: dict[str, float] = {}
    for batch in step_batches:
        measured = training.measure(batch)
        batch_loss = measured.loss_sum.item()
        if not math.isfinite(batch_loss):
            _refuse_not_finite("loss", batch_loss, state.step + 1, [batch])
        (measured.loss_sum / num).backward()
        loss_sum += batch_loss
        for name, value in measured.sums.items():
            sums[name] = sums.get(name, 0.0) + value
    lr = optimizers.learning_rate(state.step, total, attempt.config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = lr
    grad_norm = optimizers.clip(list(trainee.trained.values()), attempt.config.optimizer.max_grad_norm).item()
    if not math.isfinite(grad_norm):
        _refuse_not_finite("gradient", grad_norm, state.step + 1, step_batches)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds = time.monotonic() - started
    num_tokens = sum(batch.num_tokens for batch in step_batches)
    state.step += 1
    state.step_in_epoch += 1
    state.loss_sum += loss_sum
    state.num_losses += num
    state.num_tokens += num_tokens
    state.seconds += seconds
    attempt.progress.note_metrics(
        state.step,
        loss=loss_sum / num,
        lr=lr,
        grad_norm=grad_norm,
        epoch=state.epoch + 1,
        tokens_per_second=round(num_tokens / seconds, 1),
        memory_bytes=usage.memory_bytes(attempt.device),
        **{name: value / num for name, value in sums.items()},
    )


def _refuse_not_finite(what: str, value: float, step: int, step_batches: Iterable[Batch]) -> None:
    rows = [str(index) for batch in step_batches for index in dict.fromkeys(batch.row_indices)]
    named = ", ".join(rows[:_MAX_NAMED_ROWS]) + (" …" if len(rows) > _MAX_NAMED_ROWS else "")
    raise PaddockError(
        f"The {what} of step {step} is not finite ({value}), so training cannot go on. It was measured on the rows {named}. "
        "A lower learning rate, a longer warm-up or a smaller max_grad_norm may help."
    )


def _metrics(
    attempt: Attempt, trainee: Trainee, validation: Split, state: State, train_loss: float
) -> dict[str, float] | None:
    validated = validate(attempt, trainee, validation)
    if not math.isfinite(validated.loss):
        raise PaddockError(f"The validation loss of epoch {state.epoch + 1} is not finite ({validated.loss}).")
    attempt.progress.note_metrics(
        state.step, validation_loss=validated.loss, perplexity=validated.perplexity, train_loss=train_loss
    )
    if not math.isfinite(validated.perplexity):
        return None
    return {"train_loss": train_loss, "validation_loss": validated.loss, "perplexity": validated.perplexity}


def validate(attempt: Attempt, trainee: Trainee, validation: Split) -> Validated:
    """The mean loss over the validation set, or over its first `max_validation_steps` batches, in its own order."""
    trainee.model.eval()
    loss_sum, num, log_prob, num_tokens = 0.0, 0, 0.0, 0
    for numbers in validation_batches(attempt, validation):
        attempt.progress.check_stop()
        with torch.no_grad():
            measured = validation.measure(validation.collate(numbers))
        loss_sum += measured.loss_sum.item()
        num += measured.num
        log_prob += measured.answer_log_prob
        num_tokens += measured.num_answer_tokens
    trainee.model.train()
    nats = -log_prob / num_tokens
    return Validated(loss_sum / num, math.exp(nats) if nats < _MAX_EXPONENT else math.inf)


def validation_batches(attempt: Attempt, validation: Split) -> list[list[int]]:
    """The batches that are validated on, each a list of examples' numbers."""
    steps = batches.steps_of_epoch(validation.lengths, attempt.config.batch_size, 1, shuffle=False, seed=0, epoch=0)
    return [batch for (batch,) in steps[: attempt.config.max_validation_batches]]


def digest(*datasets: Sequence[TokenizedRow]) -> str:
    """SHA-256 of tokenised rows."""
    sha = hashlib.sha256()
    for rows in datasets:
        for row in rows:
            sha.update(len(row).to_bytes(4, "little"))
            sha.update(row.ids.tobytes())
            sha.update(row.labels.tobytes())
    return sha.hexdigest()
