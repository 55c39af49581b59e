"""Encoders that give passages their relevance to a query, on this machine. Two kinds, told apart by the model's files:

- a cross-encoder (a sequence classification architecture, or one that declares itself one to sentence-transformers, as
  language models that answer yes or no do) reads query and passage together: its score is what the model itself defines,
  a probability (sigmoid) unless its configuration says otherwise;
- a bi-encoder (any other encoder) reads them apart: the score is the cosine of the two embeddings;
A passage that is longer than the model's limit is cut at its end, and said to be. Language models without a head for
relevance rank by `likelihood`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch.nn.functional import normalize

from paddock import wire
from paddock.inference.local_models import int8, model_files, onednn
from paddock.inference.local_models.encoder import Encoder, Output
from paddock.inference.local_models.ranking import Pair, Reranker, Score


def load_encoder(folder: Path, config: dict[str, Any], device: str, precision: str = "fp32") -> Reranker:
    """The cross-encoder or bi-encoder in `folder`, whose `config.json` is `config`. Raises `ValueError` if it cannot
    rank, or not in this precision on this machine."""
    if precision == "bf16" and device == "cpu" and not onednn.has_bf16():
        raise ValueError("this machine's CPU does not compute in bf16; register it with the precision fp32")
    if precision == "int8" and device != "cpu":
        raise ValueError("int8 is for CPUs; register it with the precision bf16 for this machine's GPU")
    if precision == "int8" and not int8.is_available():
        raise ValueError("this machine's CPU does not compute in int8; register it with the precision fp32")
    # On a GPU in the type that the weights are stored in: what the model was trained and measured with.
    dtype = torch.float32 if device == "cpu" else torch.bfloat16 if precision == "bf16" else "auto"
    options = {
        "device": device,
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": dtype, "use_safetensors": True},
    }
    if model_files.is_cross_encoder(folder, config):
        model = CrossEncoder(str(folder), **options)
        if model.num_labels != 1:
            raise ValueError(f"it gives {model.num_labels} numbers for a pair of texts, where a ranking needs one")
        return _CrossEncoder(Encoder(model, precision), model.activation_fn)
    for module in _modules(folder):
        if (module / "pytorch_model.bin").exists() and not (module / "model.safetensors").exists():
            raise ValueError(f"the weights of its module {module.name} are not safetensors")
    model = SentenceTransformer(str(folder), **options)
    return _BiEncoder(Encoder(model, precision), model)


def _modules(folder: Path) -> Iterator[Path]:
    for module in _read_json(folder / "modules.json") or ():
        if module.get("path"):
            yield folder / module["path"]


def _read_json(file: Path) -> Any:
    return wire.from_json(file.read_bytes()) if file.exists() else None


class _CrossEncoder:
    def __init__(self, encoder: Encoder, activation: torch.nn.Module) -> None:
        self._encoder = encoder
        self._activation = activation

    def check(self, query: str) -> None:
        """Any query will do."""

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        outputs = self._encoder.outputs([(pair.query, pair.item) for pair in pairs])
        # One by one: a function of many numbers at once may round those at its end differently.
        return [Score(self._activation(output.vector).item(), output.is_truncated) for output in outputs]


class _BiEncoder:
    def __init__(self, encoder: Encoder, model: SentenceTransformer) -> None:
        self._encoder = encoder
        # As `encode_query` and `encode_document` of sentence-transformers choose them.
        default = model.prompts.get(model.default_prompt_name)
        names = ("document", "passage", "corpus")
        self._query_prompt = model.prompts.get("query", default)
        self._item_prompt = next((model.prompts[name] for name in names if name in model.prompts), default)
        self._num_dimensions = model.truncate_dim
        self._queries: dict[str, torch.Tensor] = {}

    def check(self, query: str) -> None:
        """Any query will do."""

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        self._embed_queries([pair.query for pair in pairs])
        items = self._encoder.outputs([pair.item for pair in pairs], prompt=self._item_prompt, task="document")
        # Each sum by itself: a matrix product may round equal rows differently.
        return [
            Score(float((self._direction(item) * self._queries[pair.query]).sum()), item.is_truncated)
            for pair, item in zip(pairs, items, strict=True)
        ]

    def _embed_queries(self, queries: Sequence[str]) -> None:
        """Those of the last call are still there: a request with many items comes again and again."""
        known = {query: self._queries[query] for query in queries if query in self._queries}
        new = [query for query in dict.fromkeys(queries) if query not in known]
        outputs = self._encoder.outputs(new, prompt=self._query_prompt, task="query") if new else []
        self._queries = known | {query: self._direction(out) for query, out in zip(new, outputs, strict=True)}

    def _direction(self, output: Output) -> torch.Tensor:
        return normalize(output.vector[: self._num_dimensions], dim=0)
