"""Texts one behind the other through the layers of one encoder, without padding, each as if it were alone.

Shapes: L tokens of one text, T tokens of a pack, D numbers of a hidden state.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from paddock.inference.local_models import fused, joined, last_layer, segments

Row = dict[str, torch.Tensor]
"""One text's tokens: `input_ids`, and what else the model wants of each token, of shape (L,)."""

MAX_TOKENS = 1024
"""A core multiplies whole numbers a tenth faster with so many rows than with half of them."""

_MULTIPLE = 16
"""Packs are filled up to multiples of so many tokens. Products of very few rows may be summed in another order, and each
new number of rows costs the compilation of a kernel."""


class PackedLayers(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Stands in a model in place of the layers below its head or pooling. It computes packs, and inside `given` the model
    finds there what was computed of one text."""

    def __init__(self, model: CrossEncoder | SentenceTransformer) -> None:
        """Raises `ValueError` for a model whose layers do not stand apart or whose attention cannot be chosen."""
        super().__init__()
        transformer = model[0]
        if not isinstance(transformer, Transformer) or "text" not in transformer.modality_config:
            raise ValueError("its first module is no transformer of plain texts")
        whole = transformer.model
        if not whole.is_backend_compatible():
            raise ValueError(f"the attention of {type(whole).__name__} cannot be chosen")
        self.layers = whole.base_model
        self.config = self.layers.config
        self._first_position = _first_position(self.layers)
        self._here = threading.local()
        self._first_rows = last_layer.FirstRows()
        self._replaced: dict[str, nn.Linear] = {}
        self._owner: nn.Module = transformer if self.layers is whole else whole
        self._name: str = "model" if self.layers is whole else whole.base_model_prefix
        self._attention_before = self.config._attn_implementation
        setattr(self._owner, self._name, self)
        self.choose_attention(segments.EXACT)

    def remove(self) -> None:
        """Leave the model as it was."""
        self.choose_attention(self._attention_before)
        setattr(self._owner, self._name, self.layers)

    def choose_attention(self, name: str) -> None:
        self.layers.set_attn_implementation(name)

    def economize(self, rows: Sequence[Row], *, reads_first_tokens: bool) -> None:
        """From now on join products of the same input, and, if no others are read, compute the last hidden states of first
        tokens alone. `rows` show what runs when."""

        def run() -> object:
            return self.hidden(rows)

        if reads_first_tokens:
            self._replaced |= last_layer.narrow(self.layers, run, self._first_rows)
        self._replaced |= joined.join(self.layers, run)

    def fuse(self, rows: Sequence[Row]) -> None:
        """From now on compute activations with the products before them. `rows` show what runs when."""
        fused.fuse(self.layers, lambda: self.hidden(rows))

    def undo_economies(self) -> None:
        for name, linear in self._replaced.items():
            self.layers.set_submodule(name, linear)
        self._replaced.clear()
        for module in self.layers.modules():
            segments.read_first_queries(module, False)

    def hidden(self, rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
        """The last hidden states of each row, of shape (L, D)."""
        lengths = [len(row["input_ids"]) for row in rows]
        fill = -sum(lengths) % _MULTIPLE
        if fill:
            rows, lengths = (
                [*rows, {name: tensor[:1].expand(fill) for name, tensor in rows[0].items()}],
                [*lengths, fill],
            )
        packed = {
            name: torch.cat([row[name] for row in rows]).unsqueeze(0) for name in rows[0] if name != "attention_mask"
        }
        positions_T = torch.cat([torch.arange(length) for length in lengths]) + self._first_position
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        self._first_rows.begin_at(ends[:-1])
        output = self.layers(
            **packed, position_ids=positions_T.unsqueeze(0), cu_seq_lens_q=ends, cu_seq_lens_k=ends, return_dict=True
        )
        hidden: tuple[torch.Tensor, ...] = output.last_hidden_state[0].split(lengths)
        return hidden[:-1] if fill else hidden

    @contextlib.contextmanager
    def given(self, hidden_LD: torch.Tensor) -> Iterator[None]:
        """Within it, on this thread, the layers give these hidden states, whatever they are asked."""
        self._here.hidden_LD = hidden_LD
        try:
            yield
        finally:
            del self._here.hidden_LD

    def forward(self, *_inputs: Any, **_options: Any) -> BaseModelOutputWithPooling:
        hidden_1LD = self._here.hidden_LD.unsqueeze(0)
        pooler = getattr(self.layers, "pooler", None)
        return BaseModelOutputWithPooling(hidden_1LD, None if pooler is None else pooler(hidden_1LD))


def _first_position(layers: nn.Module) -> int:
    """RoBERTa's kind counts positions from behind the index of its padding."""
    embeddings: Any = getattr(layers, "embeddings", None)
    counts_from_padding = hasattr(embeddings, "create_position_ids_from_input_ids")
    return int(embeddings.padding_idx) + 1 if counts_from_padding else 0
