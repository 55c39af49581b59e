"""The decoding loop: sequences of one model in a batch that they join and leave at any token.

A sequence that ends leaves at once and its answer goes out; waiting ones take its place. Those with one prompt share its
reading: each prompt is read once as long as one of them runs. What a sequence says does not depend on its neighbours:
padding is masked, positions are its own, and so are its knobs and random numbers. Text,
tokenizers and adapters are `language_model`'s. Shapes: B rows, T columns, V tokens of the vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from paddock.inference.local_models import kv_cache, sampling
from paddock.inference.local_models.constraint import Constraint
from paddock.inference.local_models.forward import forward, pad_left, position_offset
from paddock.inference.local_models.sampling import Knobs

MAX_POSITIONS = 65_536
"""Rows times columns that a batch may come to: it bounds the memory of keys and values. One sequence always fits."""

_MAX_PREFILL_POSITIONS = 16_384
"""Rows times columns of prompts that are read in one pass: it bounds the memory of activations."""


_MAX_PADDING_SHARE, _MIN_PADDING = 0.2, 512
"""Columns of padding that prompts of unlike lengths may have in one pass, for each column of theirs, and in any case. What
would have more is read in the next pass, where the batch can grow."""

_MAX_SHARE_OF_PLACES = 0.9
"""When so many of a batch's places at most are taken, its cache is copied without the others: more often would cost more
than to compute them along."""


class Choice(NamedTuple):
    """A token that was chosen, its log-probability, and the likeliest in its place with theirs."""

    token_id: int
    logprob: float
    likeliest: list[tuple[int, float]]

    @classmethod
    def of(cls, token_id: int, log_probs_V: torch.Tensor, num_likely: int) -> Choice:
        """A token among all, with so many of the likeliest."""
        top = log_probs_V.topk(min(num_likely, len(log_probs_V)))
        likeliest = list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        return cls(token_id, float(log_probs_V[token_id]), likeliest)


@dataclass(eq=False)
class Sequence:
    """One answer in the making."""

    prompt_ids: list[int]
    max_new_tokens: int
    knobs: Knobs
    end_ids: frozenset[int]
    """Tokens that end the answer."""
    is_stopped: Callable[[list[int]], bool]
    """Whether the generated tokens hold a stop sequence."""
    is_abandoned: Callable[[], bool]
    """Whether nobody waits for the answer any more."""
    finish: Callable[[list[int], str], None]
    """Called once, with the generated tokens and the reason for the end: `stop` or `length`."""
    images: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the model's processor made of the prompt's images, for the pass that reads the prompt."""
    extend: Callable[[list[int]], None] = lambda _ids: None
    """Called with the generated tokens after each that is not the last."""
    constraint: Constraint | None = None
    """What the answer may hold."""
    num_likely: int | None = None
    """How many of the likeliest are noted in each token's place; None if no probabilities are."""
    position_offset: int = 0
    num_prefilled_tokens: int = 0
    """How many of the prompt's were read for it: none, where the reading was another's."""
    first_logits_V: torch.Tensor | None = None
    """What the model makes of the prompt, for those that share it."""
    generated_ids: list[int] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    @property
    def num_positions(self) -> int:
        """How many columns it may come to."""
        return len(self.prompt_ids) + self.max_new_tokens

    @functools.cached_property
    def _prompt_hash(self) -> int:
        return hash(tuple(self.prompt_ids))

    def has_prompt_of(self, other: Sequence) -> bool:
        """Whether the model reads the same in both, images too."""
        return (
            self._prompt_hash == other._prompt_hash
            and self.prompt_ids == other.prompt_ids
            and self.images.keys() == other.images.keys()
            and all(torch.equal(value, other.images[name]) for name, value in self.images.items())
        )

    def accept(self, token_id: int) -> bool:
        """Add a token. False once the answer has come to its end and went out, or nobody waits for it."""
        self.generated_ids.append(token_id)
        if self.constraint is not None:
            self.constraint.consume(token_id)
        is_complete = self.constraint is not None and self.constraint.is_complete
        if token_id in self.end_ids or is_complete or self.is_stopped(self.generated_ids):
            self.finish(self.generated_ids, "stop")
        elif len(self.generated_ids) >= self.max_new_tokens:
            self.finish(self.generated_ids, "length")
        else:
            self.extend(self.generated_ids)
            return not self.is_abandoned()
        return False


def generate(
    model: torch.nn.Module, waiting: list[Sequence], more: Callable[[int], list[Sequence]], *, max_rows: int
) -> None:
    """Bring all of `waiting` to their ends, and those that `more(limit)` gives meanwhile, `max_rows` at a time.

    Raises `BackendError` if the model computes something that is not a number."""
    with torch.inference_mode():
        batch = _Batch(model)
        while waiting or batch.rows:
            if batch.can_grow:
                # What waits already goes first: shorter ones that kept arriving could push a long one back forever.
                waiting = waiting or more(max_rows - len(batch.rows))
                admitted = _admit(waiting, batch.rows, max_rows, joins=batch.joins)
                waiting = [sequence for sequence in waiting if sequence not in admitted]
                if admitted:
                    batch.add(admitted)
            if batch.rows:
                batch.step()


def _admit(waiting: list[Sequence], running: list[Sequence], max_rows: int, *, joins: bool) -> list[Sequence]:
    """The waiting sequences that may come next, their prompts read in one pass: the shortest first, so that there is little
    padding. `joins`: others may be read later and join them."""
    admitted: list[Sequence] = []
    reading: list[Sequence] = []
    for sequence in sorted(waiting, key=lambda sequence: len(sequence.prompt_ids)):
        rows = [*running, *admitted, sequence]
        num_positions = len(rows) * max(row.num_positions for row in rows)
        has_news = _with_its_prompt(sequence, [*running, *reading]) is None
        next_reading = [*reading, sequence] if has_news else reading
        num_prefilled = len(next_reading) * len(sequence.prompt_ids)
        num_tokens = sum(len(row.prompt_ids) for row in next_reading)
        if joins and num_prefilled - num_tokens > max(_MAX_PADDING_SHARE * num_tokens, _MIN_PADDING):
            break
        fits = num_positions <= MAX_POSITIONS and num_prefilled <= _MAX_PREFILL_POSITIONS and len(rows) <= max_rows
        # What a processor makes of images has the shape of a row of its own.
        is_alone = any(other.images for other in next_reading)
        if (not fits and len(rows) > 1) or (is_alone and len(next_reading) > 1):
            break
        admitted.append(sequence)
        reading = next_reading
    return admitted


def _with_its_prompt(sequence: Sequence, others: Iterable[Sequence | None]) -> int | None:
    """The index of the first of `others` that has the same prompt."""
    return next((i for i, other in enumerate(others) if other is not None and sequence.has_prompt_of(other)), None)


class _Batch:
    """The sequences that run, their cache and its mask (1 where a column is a token of the row's own)."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._places: list[Sequence | None] = []
        """Whose the rows of the cache are. One that ended leaves its place, for a while, to the next that joins."""
        self._model = model
        self._device = next(model.parameters()).device
        self._cache: Any = None
        self._mask_BT = torch.empty(0)
        self.joins = True
        """Whether sequences may join those that run; known once some do."""

    @property
    def rows(self) -> list[Sequence]:
        return [sequence for sequence in self._places if sequence is not None]

    @property
    def can_grow(self) -> bool:
        return not self._places or self.joins

    def add(self, sequences: list[Sequence]) -> None:
        """Read the prompts of `sequences` that are new, choose first tokens, and let them join."""
        unread: list[Sequence] = []
        late: dict[int, list[Sequence]] = {}
        for sequence in sequences:
            place = _with_its_prompt(sequence, self._places)
            (unread if place is None else late.setdefault(place, [])).append(sequence)
        for place, sharing in late.items():
            self._share(place, sharing)
        if unread:
            self._read(unread)

    def _read(self, sequences: list[Sequence]) -> None:
        reading: list[Sequence] = []
        places = []
        for sequence in sequences:
            place = _with_its_prompt(sequence, reading)
            if place is None:
                place = len(reading)
                reading.append(sequence)
                sequence.num_prefilled_tokens = len(sequence.prompt_ids)
            places.append(place)
        ids_BT, mask_BT = pad_left([sequence.prompt_ids for sequence in reading], self._device)
        images = reading[0].images
        logits_BTV, cache = forward(
            self._model, ids_BT, mask_BT, num_logits=1, cache=None, use_cache=True, images=images
        )
        offset = position_offset(self._model) if images else 0
        for sequence, place in zip(sequences, places, strict=True):
            sequence.position_offset = offset
            sequence.first_logits_V = logits_BTV[place, -1]
        if len(reading) < len(sequences):
            mask_BT = kv_cache.keep_rows(cache, mask_BT, places)
        self._let_in(sequences, cache, mask_BT)

    def _share(self, place: int, sequences: list[Sequence]) -> None:
        running = self._places[place]
        assert running is not None
        for sequence in sequences:
            sequence.position_offset, sequence.first_logits_V = running.position_offset, running.first_logits_V
        num_columns = len(running.prompt_ids)
        cache, mask_BT = kv_cache.beginning(self._cache, self._mask_BT, place, num_columns, num_copies=len(sequences))
        self._let_in(sequences, cache, mask_BT)

    def _let_in(self, sequences: list[Sequence], cache: Any, mask_BT: torch.Tensor) -> None:
        # Stacked, they are a copy: what is chosen from is changed by penalties and limits.
        logits_BV = torch.stack([sequence.first_logits_V for sequence in sequences])
        going_on = _choose(sequences, logits_BV)
        rows = [row for row, goes_on in enumerate(going_on) if goes_on]
        if not rows:
            return
        if len(rows) < len(sequences):
            mask_BT = kv_cache.keep_rows(cache, mask_BT, rows)
        joining = [sequences[row] for row in rows]
        if self._places:
            free = [place for place, sequence in enumerate(self._places) if sequence is None]
            self._mask_BT = kv_cache.join(self._cache, self._mask_BT, cache, mask_BT, free)
            for place, sequence in zip(free, joining, strict=False):
                self._places[place] = sequence
            self._places += joining[len(free) :]
        else:
            self.joins = kv_cache.is_joinable(cache)
            kv_cache.give_room(cache)
            self._cache, self._mask_BT, self._places = cache, mask_BT, [*joining]

    def step(self) -> None:
        """One more token for each sequence."""
        last = [0 if sequence is None else sequence.generated_ids[-1] for sequence in self._places]
        last_B1 = torch.tensor(last, device=self._device).unsqueeze(1)
        self._mask_BT = torch.cat([self._mask_BT, torch.ones_like(last_B1)], dim=1)
        logits_BTV, self._cache = forward(
            self._model,
            last_B1,
            self._mask_BT,
            num_logits=1,
            cache=self._cache,
            use_cache=True,
            offsets=[0 if sequence is None else sequence.position_offset for sequence in self._places],
        )
        running = [place for place, sequence in enumerate(self._places) if sequence is not None]
        logits_BV = logits_BTV[:, -1] if len(running) == len(self._places) else logits_BTV[running, -1]
        going_on = _choose(self.rows, logits_BV)
        if not all(going_on):
            self._leave([place for place, goes_on in zip(running, going_on, strict=True) if goes_on])

    def _leave(self, staying: list[int]) -> None:
        """The sequences go that are not at these places."""
        if not staying:
            self._places, self._cache = [], None
            return
        if len(staying) <= _MAX_SHARE_OF_PLACES * len(self._places):
            self._mask_BT = kv_cache.keep_rows(self._cache, self._mask_BT, staying)
            self._places = [self._places[place] for place in staying]
            staying = [*range(len(staying))]
        else:
            gone = [place for place in range(len(self._places)) if place not in staying]
            for place in gone:
                self._places[place] = None
            # They count their positions from the start again, which else might come to more than the model has.
            self._mask_BT[gone] = 0
        self._mask_BT = kv_cache.cut_padding(self._cache, self._mask_BT, staying)


def _choose(rows: list[Sequence], logits_BV: torch.Tensor) -> list[bool]:
    """Choose each row's next token. Returns which of them go on."""
    noted = {row: logits_BV[row].log_softmax(dim=-1) for row, s in enumerate(rows) if s.num_likely is not None}
    for row, sequence in enumerate(rows):
        penalty = sequence.knobs.repetition_penalty
        if penalty != 1.0:
            token_ids = sequence.prompt_ids + sequence.generated_ids
            logits_BV[row] = sampling.penalize(logits_BV[row], token_ids, penalty)
        if sequence.constraint is not None:
            logits_BV[row] = sequence.constraint.limit(logits_BV[row])
    tokens = sampling.choose(logits_BV, [sequence.knobs for sequence in rows]).tolist()
    for row, log_probs_V in noted.items():
        rows[row].choices.append(Choice.of(tokens[row], log_probs_V, rows[row].num_likely or 0))
    return [sequence.accept(token_id) for sequence, token_id in zip(rows, tokens, strict=True)]
