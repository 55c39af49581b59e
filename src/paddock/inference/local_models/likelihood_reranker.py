"""A causal language model as a reranker, having no head for relevance: the score of a passage is the mean log-likelihood of
the query after it (Sachan et al. 2022, https://arxiv.org/abs/2204.07496)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddock.errors import InvalidRequestError
from paddock.inference.local_models.language_model import LanguageModel
from paddock.inference.local_models.likelihood import log_likelihoods
from paddock.inference.local_models.ranking import Pair, Score


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
        query_ids = self._ids(pair.query)
        (value,) = log_likelihoods(model, [(passage_ids[:room] + self._end_ids, query_ids)])
        return Score(value / len(query_ids), room is not None and len(passage_ids) > room)

    def _room(self, query: str) -> int | None:
        """Tokens that a passage may have beside the query."""
        context = self._language_model.context
        return None if context is None else context - len(self._ids(query)) - len(self._end_ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
