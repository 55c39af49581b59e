"""The training loop, the same for every recipe: steps, epochs, validation, checkpoints, resume points, progress.

A recipe says what a batch is and how its loss is measured; nothing here knows of answers or preferences. A step's loss
is a sum over all of its batches, divided once: accumulating gradients over several small batches is one large batch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from paddock.post_training.team import Team
from paddock.post_training.tokens import TokenizedRow

log = logging.getLogger("paddock.training")

_MAX_NAMED_ROWS = 32
_MIN_LOSS_SCALE = 1.0  # gradients that overflow without being scaled up are no matter of scale
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
    `weigh` a batch (how many tokens or pairs its loss is a sum over), `measure` its loss.

    Where the loss of a batch needs to know something of all batches that are measured together (those of a step, those of
    a validation), `look_ahead` finds it, and `measure` is given it; None is given to a batch that stands alone."""

    rows: Sequence[Sequence[TokenizedRow]]
    lengths: Sequence[int]
    collate: Callable[[Sequence[int]], Batch]
    weigh: Callable[[Batch], int]
    measure: Callable[[Batch, Tensor | None], Measured]
    look_ahead: Callable[[Iterable[Batch]], Tensor] | None = None


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
    team = attempt.team
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
            if team.is_first:
                progress.report(state.step, total, "steps")
            points.save_if_due(state)
            if team.told(progress.should_stop):
                points.save(state)
                raise StopRequestedError
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
            if team.told(progress.should_stop):
                raise StopRequestedError
    if team.is_first:
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
    step_batches = [_shared(attempt.team, training, numbers) for numbers in examples]
    sums = _backward(attempt.team, trainee, training, step_batches, state.step + 1)
    lr = optimizers.learning_rate(state.step, total, attempt.config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = lr
    figures = {"loss_scale": trainee.scaler.get_scale()} if trainee.scaler.is_enabled() else {}
    trainee.scaler.unscale_(optimizer)
    grad_norm = optimizers.clip(list(trainee.trained.values()), attempt.config.optimizer.max_grad_norm).item()
    if math.isfinite(grad_norm):
        figures["grad_norm"] = grad_norm
    elif figures.get("loss_scale", 0.0) <= _MIN_LOSS_SCALE:
        _refuse_not_finite("gradient", grad_norm, state.step + 1, step_batches)
    trainee.scaler.step(optimizer)
    trainee.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    seconds = time.monotonic() - started
    num, num_tokens = sums.pop("num"), sums.pop("num_tokens")
    state.step += 1
    state.step_in_epoch += 1
    state.loss_sum += sums["loss"]
    state.num_losses += int(num)
    state.num_tokens += int(num_tokens)
    state.seconds += seconds
    figures |= {name: value / num for name, value in sums.items()}
    _note(
        attempt,
        state,
        lr=lr,
        epoch=state.epoch + 1,
        tokens_per_second=round(num_tokens / seconds, 1),
        memory_bytes=usage.memory_bytes(attempt.device),
        **figures,
    )


def _backward(team: Team, trainee: Trainee, training: Split, step_batches: list[Batch], step: int) -> dict[str, float]:
    """The gradients of a step. Returns sums over all of its batches: `loss`, what a recipe sums beside it, the number `num`
    of tokens or pairs that these are sums over, and `num_tokens`."""
    (num,) = team.totals(sum(training.weigh(batch) for batch in step_batches if not batch.is_spare))
    ahead = None
    if training.look_ahead is not None and not (len(step_batches) == 1 and team.is_alone):
        ahead = training.look_ahead(step_batches)
    sums: dict[str, float] = {"loss": 0.0, "num_tokens": 0.0}
    suspects = step_batches
    for batch in step_batches:
        measured = training.measure(batch, ahead)
        share = 0.0 if batch.is_spare else 1.0
        # Gradients of several workers are averaged, not summed.
        trainee.scaler.scale(measured.loss_sum * share / num * team.size).backward()
        found = {"loss": measured.loss_sum.item(), "num_tokens": float(batch.num_tokens)} | measured.sums
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value * share
        if not math.isfinite(found["loss"]):
            suspects = [batch]
    sums = dict(zip(sums, team.totals(*sums.values()), strict=True))
    if not math.isfinite(sums["loss"]):
        _refuse_not_finite("loss", sums["loss"], step, suspects)
    return sums | {"num": num}


def _note(attempt: Attempt, state: State, **figures: float) -> None:
    if attempt.team.is_first:
        attempt.progress.note_metrics(state.step, **figures)


def _shared(team: Team, split: Split, numbers: Sequence[int]) -> Batch:
    """This worker's share of a batch, or a spare one."""
    share = team.share(numbers)
    return split.collate(share) if share else replace(split.collate(numbers[:1]), is_spare=True)


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
    _note(attempt, state, validation_loss=validated.loss, perplexity=validated.perplexity, train_loss=train_loss)
    if not math.isfinite(validated.perplexity):
        return None
    return {"train_loss": train_loss, "validation_loss": validated.loss, "perplexity": validated.perplexity}


def validate(attempt: Attempt, trainee: Trainee, validation: Split) -> Validated:
    """The mean loss over the validation set, or over its first `max_validation_steps` batches, in its own order."""
    trainee.model.eval()
    loss_sum, num, log_prob, num_tokens = 0.0, 0.0, 0.0, 0.0

    team = attempt.team

    def collated() -> Iterator[Batch]:
        for numbers in validation_batches(attempt, validation):
            if team.told(attempt.progress.should_stop):
                raise StopRequestedError
            yield _shared(team, validation, numbers)

    ahead = None if validation.look_ahead is None else validation.look_ahead(collated())
    for batch in collated():
        with torch.no_grad():
            measured = validation.measure(batch, ahead)
        if batch.is_spare:
            continue
        loss_sum += measured.loss_sum.item()
        num += measured.num
        log_prob += measured.answer_log_prob
        num_tokens += measured.num_answer_tokens
    trainee.model.train()
    loss_sum, num, log_prob, num_tokens = team.totals(loss_sum, num, log_prob, num_tokens)
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
