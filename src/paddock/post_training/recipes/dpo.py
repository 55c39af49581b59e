"""Preference optimisation: the policy is drawn towards chosen answers and away from rejected ones, held by what it was.

The reference is the policy as it stood before the first step. Its log-probabilities are measured once, and kept with the
resume points; there is never a second copy of the weights.

The answers of pair i are the rows 2i (chosen) and 2i + 1 (rejected). Shapes: P pairs in a batch, M = 2P answers.
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
from paddock.post_training.batches import Batch, Pack
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

    train_rows = _tokenize(attempt, tokenizer, config.dataset_id, limit)
    validation_rows = _tokenize(attempt, tokenizer, config.validation_dataset_id, limit)
    num_pairs, num_validation_pairs = len(train_rows) // 2, len(validation_rows) // 2
    packs = (
        batches.pack_rows(_pair_lengths(train_rows), limit, shuffle=config.shuffle, seed=config.seed)
        if config.packed
        else batches.single(num_pairs)
    )
    log.info("%d pairs in %d packs, answers of at most %d tokens.", num_pairs, len(packs), limit)
    if config.train_on_input and config.preference.loss_type != "kto_pair":
        log.info(
            "train_on_input: the prompt is the same on both sides and cancels out of %s.", config.preference.loss_type
        )

    torch.manual_seed(config.seed)
    trainee = adapters.load(attempt.source, attempt.folder, config, attempt.team, scratch=attempt.scratch)
    optimizer = optimizers.make(trainee.trained.values(), config.optimizer)

    if config.packed:
        sequences = [sequence for pack in packs for sequence in _sequences(pack)]
        adapters.check_packing(trainee, train_rows, sequences, tokenizer.pad_token_id or 0)

    # Log-probabilities under the reference, of chosen and rejected: not a number until they are measured.
    reference_P2 = torch.full((num_pairs, 2), torch.nan)
    validation_reference_P2 = torch.full((num_validation_pairs, 2), torch.nan)
    training = _split(attempt, trainee, train_rows, packs, reference_P2, tokenizer)
    validation = None
    if validation_rows:
        alone = batches.single(num_validation_pairs)
        validation = _split(attempt, trainee, validation_rows, alone, validation_reference_P2, tokenizer)

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
            answers(),
            tokenizer,
            dataset_id=dataset_id,
            model_id=attempt.config.model_id,
            max_seq_len=limit,
            train_on_input=attempt.config.train_on_input,
        )
    )
    num_truncated = sum(row.is_truncated for row in tokenized)
    if num_truncated:
        log.info("%d answers of %s are cut to %d tokens.", num_truncated, dataset_id, limit)
    return tokenized


def _split(
    attempt: Attempt,
    trainee: Trainee,
    tokenized: Sequence[TokenizedRow],
    packs: Sequence[Pack],
    reference_P2: Tensor,
    tokenizer: Any,
) -> Split:
    preference = attempt.config.preference
    assert preference is not None
    beta = preference.beta

    def collate(numbers: Sequence[int]) -> Batch:
        sequences = [sequence for number in numbers for sequence in _sequences(packs[number])]
        return batches.collate(tokenized, sequences, tokenizer.pad_token_id or 0)

    def log_ratios(batch: Batch) -> tuple[Tensor, Tensor]:
        log_probs_P2 = _pair_log_probs(trainee, batch)
        return log_probs_P2 - reference_P2[_pairs(batch)].to(trainee.device), log_probs_P2

    def divergence(step_batches: Iterable[Batch]) -> Tensor:
        # The same dropout as when the batches are learnt from, so that the estimate is of the very policy that is.
        devices = [trainee.device] if trainee.device.type == "cuda" else []
        sums_2, num_pairs = torch.zeros(2, dtype=torch.float64, device=trainee.device), 0
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            for batch in step_batches:
                log_ratios_P2, _ = log_ratios(batch)
                if not batch.is_spare:
                    sums_2 += log_ratios_P2.double().sum(dim=0)
                    num_pairs += len(log_ratios_P2)
        chosen, rejected, num = attempt.team.totals(*sums_2.tolist(), num_pairs)
        return losses.kl_estimate(torch.tensor([[chosen / num, rejected / num]], device=trainee.device))

    def measure(batch: Batch, kl_2: Tensor | None) -> Measured:
        log_ratios_P2, log_probs_P2 = log_ratios(batch)
        if preference.loss_type == "kto_pair":
            kl_2 = losses.kl_estimate(log_ratios_P2) if kl_2 is None else kl_2
            losses_P = losses.kto_pair(log_ratios_P2, kl_2, beta)
        else:
            losses_P = losses.MARGIN_LOSSES[preference.loss_type](log_ratios_P2, beta)
        rewards_P = beta * losses.margins(log_ratios_P2).detach()
        return Measured(
            losses_P.sum(),
            len(losses_P),
            log_probs_P2[:, 0].sum().item(),
            sum(batch.member_labels[::2]),
            {"reward_margin": rewards_P.sum().item(), "reward_accuracy": (rewards_P > 0).sum().item()},
        )

    return Split(
        rows=[[tokenized[answer] for answer in _answers(pack)] for pack in packs],
        lengths=[sum(len(tokenized[answer]) for answer in _answers(pack)) for pack in packs],
        collate=collate,
        weigh=lambda batch: len(batch.members) // 2,
        measure=measure,
        look_ahead=divergence if preference.loss_type == "kto_pair" else None,
    )


def _pair_lengths(tokenized: Sequence[TokenizedRow]) -> list[int]:
    return [len(tokenized[i]) + len(tokenized[i + 1]) for i in range(0, len(tokenized), 2)]


def _answers(pairs: Pack) -> list[int]:
    return [answer for pair in pairs for answer in (2 * pair, 2 * pair + 1)]


def _sequences(pairs: Pack) -> list[Pack]:
    """All answers of the pairs in a pack share a sequence; a pair by itself, which may be too long for one, has two."""
    answers = _answers(pairs)
    return [(answer,) for answer in answers] if len(pairs) == 1 else [tuple(answers)]


def _pair_log_probs(trainee: Trainee, batch: Batch) -> Tensor:
    """log π of each whole answer, chosen and rejected (P, 2)."""
    log_probs_N, _ = trainee.log_probs(batch)
    log_probs_M = losses.answer_log_probs(log_probs_N, torch.tensor(batch.member_labels))
    # The two answers of a pair are neighbours.
    return log_probs_M.view(-1, 2)


def _pairs(batch: Batch) -> list[int]:
    return [number // 2 for number in batch.members[::2]]


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
    team = attempt.team
    met: set[int] = set()
    mine_P2 = torch.zeros_like(reference_P2)
    trainee.model.eval()
    for numbers in to_measure:
        attempt.progress.check_stop()
        new = set(_pairs(split.collate(numbers))) - met
        if not new:
            continue
        met |= new
        share = team.share(numbers)
        batch = split.collate(share or numbers[:1])
        with torch.no_grad():
            log_probs_P2 = _pair_log_probs(trainee, batch).cpu()
        if share:
            pairs = _pairs(batch)
            is_new_P = torch.tensor([pair in new for pair in pairs])
            mine_P2[pairs] = torch.where(is_new_P[:, None], log_probs_P2, mine_P2[pairs])
    trainee.model.train()
    measured = sorted(met)
    reference_P2[measured] = team.table(mine_P2)[measured]
