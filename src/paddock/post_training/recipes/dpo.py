"""Preference optimisation: the policy is drawn towards chosen answers and away from rejected ones, held by what it was.

The reference is the policy as it stood before the first step. Its log-probabilities are measured once, and kept with the
resume points; there is never a second copy of the weights.

Shapes: P pairs in a batch, whose sequences are the P chosen answers and then the P rejected ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from paddock import hub
from paddock.post_training import adapters, batches, loop, losses, optimizers, rows, tokens
from paddock.post_training import source as sources
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.post_training.batches import Batch
from paddock.post_training.loop import Measured, Split
from paddock.post_training.resume import ResumePoints, State
from paddock.post_training.rows import Conversation
from paddock.post_training.tokens import TokenizedRow

log = logging.getLogger("paddock.training")


def optimize_preferences(attempt: Attempt) -> None:
    """Train on the pairs of `attempt.config.dataset_id`, one checkpoint an epoch."""
    config = attempt.config
    assert config.preference is not None
    tokenizer = AutoTokenizer.from_pretrained(attempt.folder, trust_remote_code=False, local_files_only=True)
    limit = sources.sequence_limit(hub.read_config(attempt.folder, config.model_id), config.max_seq_len)

    # The answers of pair i are the rows 2i (chosen) and 2i + 1 (rejected).
    train_rows = _tokenize(attempt, tokenizer, config.dataset_id, limit)
    validation_rows = _tokenize(attempt, tokenizer, config.validation_dataset_id, limit)
    log.info("%d pairs of at most %d tokens each.", len(train_rows) // 2, limit)

    torch.manual_seed(config.seed)
    trainee = adapters.load(attempt.source, attempt.folder, config, attempt.device)
    optimizer = optimizers.make(trainee.trained.values(), config.optimizer)

    # Log-probabilities under the reference, of chosen and rejected: not a number until they are measured.
    reference_P2 = torch.full((len(train_rows) // 2, 2), torch.nan)
    validation_reference_P2 = torch.full((len(validation_rows) // 2, 2), torch.nan)
    training = _split(attempt, trainee, train_rows, reference_P2, tokenizer)
    validation = None
    if validation_rows:
        validation = _split(attempt, trainee, validation_rows, validation_reference_P2, tokenizer)

    points = ResumePoints(attempt, trainee, optimizer, digest=loop.digest(train_rows, validation_rows))
    state = points.load()
    if state is None:
        _measure_reference(attempt, trainee, training, _all_batches(attempt, training), reference_P2)
        if validation is not None:
            to_measure = loop.validation_batches(attempt, validation)
            _measure_reference(attempt, trainee, validation, to_measure, validation_reference_P2)
        state = State(fixed={"training": reference_P2, "validation": validation_reference_P2})
        points.save(state)
    reference_P2.copy_(state.fixed["training"])
    validation_reference_P2.copy_(state.fixed["validation"])
    loop.train(attempt, trainee, tokenizer, optimizer, training, validation, points, state)


def _tokenize(attempt: Attempt, tokenizer: Any, dataset_id: str | None, limit: int) -> list[TokenizedRow]:
    if dataset_id is None:
        return []

    def answers() -> Iterator[tuple[int, Conversation]]:
        for index, row in attempt.rows(dataset_id):
            with rows.naming(dataset_id, index):
                pair = rows.preference(row, attempt.config.data_format)
            yield index, pair.chosen
            yield index, pair.rejected

    tokenized = list(
        tokens.tokenize(
            answers(), tokenizer, dataset_id=dataset_id, model_id=attempt.config.model_id, max_seq_len=limit
        )
    )
    num_truncated = sum(row.is_truncated for row in tokenized)
    if num_truncated:
        log.info("%d answers of %s are cut to %d tokens.", num_truncated, dataset_id, limit)
    return tokenized


def _split(
    attempt: Attempt, trainee: Trainee, tokenized: Sequence[TokenizedRow], reference_P2: Tensor, tokenizer: Any
) -> Split:
    preference = attempt.config.preference
    assert preference is not None
    loss_of, beta = losses.LOSSES[preference.loss_type], preference.beta

    def collate(pairs: Sequence[int]) -> Batch:
        sequences = [(2 * pair,) for pair in pairs] + [(2 * pair + 1,) for pair in pairs]
        return batches.collate(tokenized, sequences, tokenizer.pad_token_id or 0)

    def measure(batch: Batch) -> Measured:
        log_ratios_P2, chosen_log_prob, num_chosen_tokens = _log_ratios(trainee, batch, reference_P2)
        margins_P = log_ratios_P2[:, 0] - log_ratios_P2[:, 1]
        rewards_P = beta * margins_P.detach()
        return Measured(
            loss_of(margins_P, beta).sum(),
            len(margins_P),
            chosen_log_prob,
            num_chosen_tokens,
            {"reward_margin": rewards_P.sum().item(), "reward_accuracy": (rewards_P > 0).sum().item()},
        )

    return Split(
        rows=[tokenized[i : i + 2] for i in range(0, len(tokenized), 2)],
        lengths=[max(len(tokenized[i]), len(tokenized[i + 1])) for i in range(0, len(tokenized), 2)],
        collate=collate,
        weigh=lambda batch: len(batch.members) // 2,
        measure=measure,
    )


def _log_ratios(trainee: Trainee, batch: Batch, reference_P2: Tensor) -> tuple[Tensor, float, int]:
    """log(π/π_ref) of chosen and rejected (P, 2); with the chosen answers' log-probability and number of tokens."""
    log_probs_P2, num_chosen_tokens = _pair_log_probs(trainee, batch)
    log_ratios_P2 = log_probs_P2 - reference_P2[_pairs(batch)].to(trainee.device)
    return log_ratios_P2, log_probs_P2[:, 0].sum().item(), num_chosen_tokens


def _pair_log_probs(trainee: Trainee, batch: Batch) -> tuple[Tensor, int]:
    """log π of each whole answer, chosen and rejected (P, 2), and the number of the chosen answers' tokens."""
    log_probs_N, is_target_BT = trainee.log_probs(batch)
    num_pairs = len(batch.members) // 2
    log_probs_B = losses.sequence_log_probs(log_probs_N, is_target_BT)
    return log_probs_B.view(2, num_pairs).T, int(is_target_BT[:num_pairs].sum())


def _pairs(batch: Batch) -> list[int]:
    return [number // 2 for number in batch.members[: len(batch.members) // 2]]


def _all_batches(attempt: Attempt, training: Split) -> Iterator[list[int]]:
    """The batches to come until every pair that will be met was met, in their order."""
    for epoch in range(attempt.config.num_epochs):
        for step in loop.epoch_steps(attempt, training, epoch):
            yield from step


def _measure_reference(
    attempt: Attempt, trainee: Trainee, split: Split, to_measure: Iterable[list[int]], reference_P2: Tensor
) -> None:
    """Fill in the log-probabilities under the policy as it stands, of all pairs in the batches `to_measure`.

    The batches are those of training, so that the first step finds its own numbers again, to the last bit."""
    trainee.model.eval()
    for pairs in to_measure:
        attempt.progress.check_stop()
        if not reference_P2[pairs].isnan().any():
            continue
        with torch.no_grad():
            log_probs_P2, _ = _pair_log_probs(trainee, split.collate(pairs))
        reference_P2[pairs] = torch.where(reference_P2[pairs].isnan(), log_probs_P2.cpu(), reference_P2[pairs])
    trainee.model.train()
