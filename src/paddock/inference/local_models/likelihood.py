"""How likely a language model finds a text after another: what it ranks passages by, having no head for relevance. The
score of a passage is the mean log-likelihood of the query after it (Sachan et al. 2022, https://arxiv.org/abs/2204.07496).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from paddock.errors import InvalidRequestError
from paddock.inference.local_models.forward import forward, pad_left
from paddock.inference.local_models.language_model import LanguageModel
from paddock.inference.local_models.ranking import Pair, Score

_MAX_POSITIONS = 16_384
"""Rows times columns of one pass: it bounds the memory of activations."""

_MAX_LOGITS = 2**27
"""Logits of one pass, half a gibibyte in float32."""


def mean_log_likelihoods(model: Any, prefixes: list[list[int]], ids: list[int]) -> list[float]:
    """For each prefix the mean over the tokens `ids` of log p(token | prefix, tokens before it), in nats.

    Raises `BackendError` if the model computes something that is not a number."""
    scores = [0.0] * len(prefixes)
    order = sorted(range(len(prefixes)), key=lambda index: len(prefixes[index]))
    num_tokens = model.config.get_text_config().vocab_size
    while order:
        # The longest first: those before it fit wherever it fits.
        num_columns = len(prefixes[order[-1]]) + len(ids)
        size = max(1, min(_MAX_POSITIONS // num_columns, _MAX_LOGITS // (num_tokens * len(ids))))
        chunk, order = order[-size:], order[:-size]
        with torch.inference_mode():
            found = _one_pass(model, [prefixes[index] for index in chunk], ids)
        for index, score in zip(chunk, found, strict=True):
            scores[index] = score
    return scores


def _one_pass(model: Any, prefixes: list[list[int]], ids: list[int]) -> list[float]:
    # Padded on the left, `ids` stand in the same last columns of every row.
    ids_BT, mask_BT = pad_left([prefix + ids for prefix in prefixes], next(model.parameters()).device)
    logits_BTV, _ = forward(model, ids_BT, mask_BT, num_logits=len(ids) + 1, cache=None, use_cache=False)
    # The logits at a column are about the token at the next.
    log_probs_BTV = logits_BTV[:, :-1].log_softmax(dim=-1)
    targets_BT1 = ids_BT[:, -len(ids) :].unsqueeze(-1)
    scores: list[float] = log_probs_BTV.gather(-1, targets_BT1).squeeze(-1).mean(dim=1).tolist()
    return scores


class LikelihoodReranker:
    """Ranks by a causal language model."""

    def __init__(self, language_model: LanguageModel) -> None:
        self._language_model = language_model
        self._tokenizer = language_model.tokenizer
        # The words of the paper's prompt.
        self._end_ids = self._ids(". Please write a question based on this passage. ")

    def check(self, query: str) -> None:
        """See `Reranker`."""
        num_tokens, room = len(self._ids(query)), self._room(query)
        if num_tokens == 0 or (room is not None and room <= 0):
            raise InvalidRequestError(
                f"The query has {num_tokens} tokens; {self._language_model.model_id} ranks by queries of at least "
                "one that leave room for a passage in its context.",
                pointer="/query",
            )

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """See `Reranker`."""
        with self._language_model.active() as model:
            return [self._score(model, pair) for pair in pairs]

    def _score(self, model: Any, pair: Pair) -> Score:
        # Each pair by itself: beside others of other lengths its last bits would change.
        passage_ids = self._tokenizer(f"Passage: {pair.item}")["input_ids"]
        room = self._room(pair.query)
        (value,) = mean_log_likelihoods(model, [passage_ids[:room] + self._end_ids], self._ids(pair.query))
        return Score(value, room is not None and len(passage_ids) > room)

    def _room(self, query: str) -> int | None:
        """Tokens that a passage may have beside the query."""
        context = self._language_model.context
        return None if context is None else context - len(self._ids(query)) - len(self._end_ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
