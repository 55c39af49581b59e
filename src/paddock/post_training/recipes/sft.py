"""Supervised fine-tuning: the cross-entropy of answers, over all of a step's answer tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from paddock import hub
from paddock.post_training import adapters, batches, loop, optimizers, rows, tokens
from paddock.post_training import source as sources
from paddock.post_training.adapters import Trainee
from paddock.post_training.attempt import Attempt
from paddock.post_training.batches import Batch, Pack
from paddock.post_training.loop import Measured, Split
from paddock.post_training.resume import ResumePoints, State
from paddock.post_training.tokens import TokenizedRow

log = logging.getLogger("paddock.training")


def fine_tune(attempt: Attempt) -> None:
    """Train on the answers of `attempt.config.dataset_id`, one checkpoint an epoch."""
    config = attempt.config
    tokenizer = AutoTokenizer.from_pretrained(attempt.folder, trust_remote_code=False, local_files_only=True)
    limit = sources.sequence_limit(hub.read_config(attempt.folder, config.model_id), config.max_seq_len)

    train_rows = _tokenize(attempt, tokenizer, config.dataset_id, limit)
    validation_rows = _tokenize(attempt, tokenizer, config.validation_dataset_id, limit)
    packs = (
        batches.pack_rows([len(row) for row in train_rows], limit, shuffle=config.shuffle, seed=config.seed)
        if config.packed
        else batches.single(len(train_rows))
    )
    log.info("%d rows in %d sequences of at most %d tokens.", len(train_rows), len(packs), limit)

    torch.manual_seed(config.seed)
    trainee = adapters.load(attempt.source, attempt.folder, config, attempt.team, scratch=attempt.scratch)
    optimizer = optimizers.make(trainee.trained.values(), config.optimizer)
    if config.packed:
        adapters.check_packing(trainee, train_rows, packs, tokenizer.pad_token_id or 0)

    training = _split(trainee, train_rows, packs, tokenizer)
    validation = None
    if validation_rows:
        validation = _split(trainee, validation_rows, batches.single(len(validation_rows)), tokenizer)
    points = ResumePoints(attempt, trainee, optimizer, digest=loop.digest(train_rows))
    state = points.load() or State()
    loop.train(attempt, trainee, tokenizer, optimizer, training, validation, points, state)


def _tokenize(attempt: Attempt, tokenizer: Any, dataset_id: str | None, limit: int) -> list[TokenizedRow]:
    if dataset_id is None:
        return []

    def conversations() -> Any:
        for index, row in attempt.rows(dataset_id):
            with rows.naming(dataset_id, index):
                yield index, rows.conversation(row, attempt.config.data_format)

    tokenized = list(
        tokens.tokenize(
            conversations(),
            tokenizer,
            dataset_id=dataset_id,
            model_id=attempt.config.model_id,
            max_seq_len=limit,
            train_on_input=attempt.config.train_on_input,
        )
    )
    num_truncated = sum(row.is_truncated for row in tokenized)
    if num_truncated:
        log.info("%d rows of %s are cut to %d tokens.", num_truncated, dataset_id, limit)
    return tokenized


def _split(trainee: Trainee, tokenized: Sequence[TokenizedRow], packs: Sequence[Pack], tokenizer: Any) -> Split:
    def measure(batch: Batch, _ahead: Tensor | None) -> Measured:
        log_probs_N, _ = trainee.log_probs(batch)
        log_prob = log_probs_N.sum()
        return Measured(-log_prob, len(log_probs_N), log_prob.item(), len(log_probs_N))

    return Split(
        rows=[[tokenized[number] for number in pack] for pack in packs],
        lengths=[sum(len(tokenized[number]) for number in pack) for pack in packs],
        collate=lambda numbers: batches.collate(tokenized, [packs[n] for n in numbers], tokenizer.pad_token_id or 0),
        weigh=lambda batch: batch.num_labels,
        measure=measure,
    )
