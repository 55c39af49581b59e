"""What an answer may hold: JSON, or JSON of a schema. At each token, those that cannot lead there are ruled out.

llguidance knows which they are; which answers are to be limited is `language_model`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.hf import from_tokenizer

from paddock.errors import InvalidRequestError

if TYPE_CHECKING:  # a name for type checkers alone
    from llguidance._lib import JsonCompileOptions

# A weak model would otherwise fill its answer with spaces, which JSON allows without end.
_OPTIONS: JsonCompileOptions = {"whitespace_pattern": r"[ \n\t]{0,20}"}

# A tenth of the library's own bounds: one step of a hostile schema must not keep the other rows waiting.
_LIMITS = LLParserLimits(step_lexer_fuel=100_000, step_max_items=10_000, max_grammar_size=100_000, verbose_errors=False)

_SHOWN_CHARACTERS = 300


class Constraints:
    """Limits on the answers of one tokenizer's models. To build one takes up to a second."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        """Raises `InvalidRequestError` if the tokenizer cannot be used this way."""
        try:
            self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, eos_token=sorted(end_ids) or None)
        except (ValueError, RuntimeError) as error:
            raise InvalidRequestError(
                f"This model's answers cannot be held to a format: {_first_line(error)}", pointer="/response_format"
            ) from None

    def json(self, schema: dict[str, Any], pointer: str, fail: Callable[[InvalidRequestError], None]) -> Constraint:
        """An answer that is JSON of `schema`. Raises `InvalidRequestError` with `pointer` for what is no schema, or one that
        cannot be held to; `fail` is called for one that proves too complex on the way."""
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults=_OPTIONS)
        except ValueError as error:
            raise InvalidRequestError(f"The schema cannot be used: {_first_line(error)}", pointer=pointer) from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise InvalidRequestError(f"The schema cannot be used: {_first_line(matcher.get_error())}", pointer=pointer)
        return Constraint(matcher, lambda reason: fail(InvalidRequestError(reason, pointer=pointer)))


class Constraint:
    """Where one answer is in what it may hold."""

    def __init__(self, matcher: LLMatcher, fail: Callable[[str], None]) -> None:
        self._matcher = matcher
        self._fail = fail

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more."""
        return bool(self._matcher.is_stopped())

    def limit(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits, with minus infinity for the tokens that may not come next."""
        bits = self._matcher.compute_bitmask()
        if self._failed():
            return logits_V
        allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[: logits_V.shape[0]].astype(
            bool
        )
        # A model may have more outputs than its tokenizer has tokens.
        allowed = np.pad(allowed, (0, logits_V.shape[0] - len(allowed)))
        return logits_V.masked_fill(~torch.from_numpy(allowed).to(logits_V.device), -torch.inf)

    def consume(self, token_id: int) -> None:
        """`token_id` came next."""
        self._matcher.consume_token(token_id)
        self._failed()

    def _failed(self) -> bool:
        if not self._matcher.is_error():
            return False
        self._fail(f"The schema cannot be held to: {_first_line(self._matcher.get_error())}")
        return True


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:_SHOWN_CHARACTERS]
