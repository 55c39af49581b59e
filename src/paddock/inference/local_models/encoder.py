"""Sentence-transformers' models as rerankers run them: texts in, one vector a text out, the same to the bit whatever
else is asked for at the same time.

On a CPU nothing is padded. Short texts share passes (`packs`), attention stays within each text (`segments`), and heads
and poolings read one text at a time. A pack changes no bit of a text as long as a row of a matrix product does not depend
on the rows beside it: that is tried, with the model's own weights, when it is loaded. Where it fails, or where a model
cannot be run in packs, each text has a pass of its own. Threads work on passes of their own, so their number changes no
bit either.

On a GPU texts go in padded batches, as sentence-transformers runs them.
"""

from __future__ import annotations

import functools
import heapq
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from paddock.inference.local_models import int8, onednn, packs, segments
from paddock.inference.local_models.packs import PackedLayers, Row

log = logging.getLogger("paddock.engine")

Text = str | tuple[str, str]
"""A text to embed, or a query and a passage to read together."""

_MAX_DEVIATION = 1e-4
"""Between a pack and the model's own pass, relative to the largest number: rounding stays far below it, a wrong position or
a neighbour's token far above."""

_LINEARS: dict[str, Callable[[torch.nn.Linear], torch.nn.Module]] = {
    "fp32": functools.partial(onednn.Linear, dtype=torch.float32),
    "bf16": functools.partial(onednn.Linear, dtype=torch.bfloat16),
    "int8": int8.Linear,
}

_HEADS = frozenset({"pooler", "classifier", "score", "lm_head"})
"""They read one row at a time, so they would gain nothing, and a score is not to be rounded at the end."""

_MIN_PASS_TOKENS = 256
"""Products of fewer rows are slower than a thread that helps is worth."""

_SENTENCE = "The quick brown fox jumps over the lazy dog while seven wizards mix a potion of 12 herbs. "


class Output(NamedTuple):
    """What a model makes of one text: an embedding, or the one number before a cross-encoder's activation."""

    vector: torch.Tensor
    is_truncated: bool


class Encoder:
    """One model, on the device where it was loaded."""

    def __init__(self, model: CrossEncoder | SentenceTransformer, precision: str) -> None:
        """`precision` is `fp32`, `bf16` or `int8`; a GPU has it in the model's weights by now."""
        self._model = model.eval()
        self._is_pairs = isinstance(model, CrossEncoder)
        self._packed: PackedLayers | None = None
        self._pack_tokens = packs.MAX_TOKENS
        if self._is_on_cpu:
            with torch.inference_mode():
                self._prepare(precision)

    @property
    def _is_on_cpu(self) -> bool:
        return bool(self._model.device.type == "cpu")

    def outputs(self, texts: Sequence[Text], *, prompt: str | None = None, task: str | None = None) -> list[Output]:
        """One for each text. `prompt` stands before each; `task` is `query` or `document` where a model tells them
        apart."""
        rows, rest = self._tokenize(texts, prompt, task)
        run = self._unpadded if self._is_on_cpu else self._padded
        vectors = run(rows, rest)
        limit = self._model.max_seq_length
        return [
            Output(vector, len(row["input_ids"]) == limit and self._length(text, prompt) > limit)
            for vector, row, text in zip(vectors, rows, texts, strict=True)
        ]

    # ------------------------------------------------------------------------------------------------ loading

    def _prepare(self, precision: str) -> None:
        """Choose the way through the model, and give its weights the form for it."""
        lengths = (1, 5, 20, 2)
        texts: list[Text] = [("fox", _SENTENCE * n) if self._is_pairs else _SENTENCE * n for n in lengths]
        rows, rest = self._tokenize(texts, None, None)
        expected = [self._alone(row, rest) for row in rows]
        try:
            self._packed = PackedLayers(self._model)
        except ValueError as error:
            log.info("Each text has a pass of its own: %s.", error)
        if self._packed is not None and (reason := self._disagreement(rows, rest, expected)):
            log.info("Each text has a pass of its own: %s.", reason)
            self._packed.remove()
            self._packed = None
        if self._packed is not None:
            self._packed.economize(rows, reads_first_tokens=self._reads_first_tokens(rows, rest))
            if reason := self._disagreement(rows, rest, expected):
                log.info("All of the layers is computed as it stands: %s.", reason)
                self._packed.undo_economies()
        if onednn.is_available():
            module = self._model if self._packed is None else self._packed.layers
            onednn.replace_linears(module, _LINEARS[precision], but=_HEADS)
        if self._packed is not None:
            if precision == "bf16":
                self._packed.choose_attention(segments.FAST)
            self._packed.fuse(rows)
            if not _is_indifferent(self._packed.hidden, rows):
                log.info("Each text has a pass of its own: what a pack computes of it depends on the others in it.")
                self._pack_tokens = 0

    def _disagreement(self, rows: list[Row], rest: dict[str, Any], expected: list[torch.Tensor]) -> str | None:
        """Why a pack does not compute what the model itself does, if it does not."""
        assert self._packed is not None
        try:
            found = [
                self._finish(row, rest, hidden) for row, hidden in zip(rows, self._packed.hidden(rows), strict=True)
            ]
        except (segments.UnsupportedAttentionError, TypeError, KeyError, RuntimeError) as error:
            return repr(error)
        deviation = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
        return None if deviation < _MAX_DEVIATION else "in a pack the model computes something else"

    def _reads_first_tokens(self, rows: list[Row], rest: dict[str, Any]) -> bool:
        """Whether the head or pooling reads the first token of a text alone: it then sees no nonsense in the others."""
        assert self._packed is not None
        for row, hidden_LD in zip(rows, self._packed.hidden(rows), strict=True):
            first_LD = torch.full_like(hidden_LD, torch.nan)
            first_LD[0] = hidden_LD[0]
            if not torch.equal(self._finish(row, rest, hidden_LD), self._finish(row, rest, first_LD)):
                return False
        return True

    # ------------------------------------------------------------------------------------------------ tokens

    def _tokenize(
        self, texts: Sequence[Text], prompt: str | None, task: str | None
    ) -> tuple[list[Row], dict[str, Any]]:
        """Each text's tokens, and what the model wants to know beside them."""
        features = self._model.preprocess(list(texts), prompt=prompt, **({} if task is None else {"task": task}))
        mask_BT = features["attention_mask"].bool()
        by_token = {name: value for name, value in features.items() if getattr(value, "shape", None) == mask_BT.shape}
        rows = [{name: value[i, mask_BT[i]] for name, value in by_token.items()} for i in range(len(texts))]
        rest = {name: value for name, value in features.items() if name not in by_token}
        return rows, rest | ({} if task is None else {"task": task})

    def _length(self, text: Text, prompt: str | None) -> int:
        """The tokens of a text, however many."""
        parts = text if isinstance(text, tuple) else ((prompt or "") + text,)
        return len(self._model.tokenizer(*parts, truncation=False, verbose=False)["input_ids"])

    # ------------------------------------------------------------------------------------------------ computing

    def _unpadded(self, rows: list[Row], rest: dict[str, Any]) -> list[torch.Tensor]:
        def run(indices: list[int]) -> list[torch.Tensor]:
            mine = [rows[index] for index in indices]
            with torch.inference_mode():
                if self._packed is None:
                    return [self._alone(row, rest) for row in mine]
                return [
                    self._finish(row, rest, hidden) for row, hidden in zip(mine, self._packed.hidden(mine), strict=True)
                ]

        lengths = [len(row["input_ids"]) for row in rows]
        passes = _passes(lengths, 0 if self._packed is None else self._pack_tokens, torch.get_num_threads())
        vectors: dict[int, torch.Tensor] = {}
        for indices, found in zip(passes, _each(run, passes), strict=True):
            vectors.update(zip(indices, found, strict=True))
        return [vectors[index] for index in range(len(rows))]

    def _finish(self, row: Row, rest: dict[str, Any], hidden_LD: torch.Tensor) -> torch.Tensor:
        """What the model makes of a row whose hidden states are known."""
        assert self._packed is not None
        with self._packed.given(hidden_LD):
            return self._alone(row, rest)

    def _alone(self, row: Row, rest: dict[str, Any]) -> torch.Tensor:
        return self._forward({name: tensor.unsqueeze(0) for name, tensor in row.items()} | rest)[0]

    def _padded(self, rows: list[Row], rest: dict[str, Any]) -> list[torch.Tensor]:
        device = self._model.device
        padded = self._model.tokenizer.pad({name: [row[name] for row in rows] for name in rows[0]}, return_tensors="pt")
        with torch.inference_mode():
            return list(self._forward({name: tensor.to(device) for name, tensor in padded.items()} | rest).cpu())

    def _forward(self, features: dict[str, Any]) -> torch.Tensor:
        output_BD: torch.Tensor = self._model(features)["scores" if self._is_pairs else "sentence_embedding"]
        return output_BD.float()


def _passes(lengths: list[int], pack_tokens: int, num_threads: int) -> list[list[int]]:
    """Indices of rows that share a pass, all of them of nearly the same number of tokens, `pack_tokens` if there are enough:
    threads get the same number of passes, and end together. With no tokens to a pack, each row has its own."""
    if pack_tokens == 0:
        return [[index] for index in range(len(lengths))]
    num_tokens = sum(lengths)
    num_passes = num_threads * -(-num_tokens // (num_threads * pack_tokens))
    num_passes = max(1, min(num_passes, num_tokens // _MIN_PASS_TOKENS, len(lengths)))
    passes: list[tuple[int, list[int]]] = [(0, []) for _ in range(num_passes)]
    # The longest that is left to the shortest pass (Graham 1969).
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length, indices = passes[0]
        heapq.heapreplace(passes, (length + lengths[index], [*indices, index]))
    return [indices for _, indices in passes]


def _is_indifferent(hidden: Callable[[list[Row]], Sequence[torch.Tensor]], rows: list[Row]) -> bool:
    """Whether each row gets the same bits alone, with all others, and with some, before and behind it."""
    alone = [hidden([row])[0] for row in rows]
    orders = [list(range(len(rows))), list(reversed(range(len(rows)))), [0, 3], [3, 1], [0], [0] * 20]
    return all(
        torch.equal(found, alone[index])
        for order in orders
        for index, found in zip(order, hidden([rows[index] for index in order]), strict=True)
    )


def _each(run: Callable[[list[int]], list[torch.Tensor]], passes: list[list[int]]) -> Sequence[list[torch.Tensor]]:
    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(passes) == 1:
        return [run(indices) for indices in passes]
    return list(_pool(num_threads).map(run, passes))


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads that compute alone: a team of threads in each product would wait for its slowest a thousand times."""

    def compute_alone() -> None:
        torch.set_num_threads(1)

    return ThreadPoolExecutor(num_threads, "rerank", compute_alone)
