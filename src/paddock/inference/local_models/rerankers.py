"""What gives passages their relevance to a query, on this machine. Three kinds, told apart by the model's files:

- a cross-encoder (a sequence classification architecture) reads query and passage together: its score is what the
  model itself defines, a probability (sigmoid) unless its configuration says otherwise;
- a bi-encoder (any other encoder) reads them apart: the score is the cosine of the two embeddings;
- a causal language model, and so every checkpoint, has no head for relevance: the score is the mean log-likelihood of
  the query after the passage (Sachan et al. 2022, https://arxiv.org/abs/2204.07496).

A passage that is longer than the model's limit is cut at its end. The same passage always gets the same score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch.nn.functional import normalize

from paddock import wire
from paddock.errors import BackendError, InvalidRequestError
from paddock.inference.engine_messages import RerankAnswer, RerankRequest
from paddock.inference.local_models.language_model import LanguageModel
from paddock.inference.local_models.likelihood import mean_log_likelihoods
from paddock.inference.local_models.queue import Work

_CHUNK = 64
"""Texts that go through an encoder at once; between chunks the engine looks whether anyone still waits."""

Text = TypeVar("Text", str, tuple[str, str])


class Reranker(Protocol):
    """Answers rerank requests of one model."""

    def rerank(self, works: list[Work]) -> None:
        """Finish or fail each of `works`; those whose clients left may stay as they are."""
        ...


def load_encoder(folder: Path, config: dict[str, Any], device: str) -> Reranker:
    """The cross-encoder or bi-encoder in `folder`, whose `config.json` is `config`. Raises `ValueError` if it cannot
    rank."""
    # On a GPU in the type that the weights are stored in: what the model was trained and measured with.
    options = {
        "device": device,
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": torch.float32 if device == "cpu" else "auto", "use_safetensors": True},
    }
    if _is_cross_encoder(folder, config):
        return _CrossEncoder(CrossEncoder(str(folder), **options))
    for module in _modules(folder):
        if (module / "pytorch_model.bin").exists() and not (module / "model.safetensors").exists():
            raise ValueError(f"the weights of its module {module.name} are not safetensors")
    return _BiEncoder(SentenceTransformer(str(folder), **options))


def _is_cross_encoder(folder: Path, config: dict[str, Any]) -> bool:
    declared = _read_json(folder / "config_sentence_transformers.json") or {}
    architectures = config.get("architectures") or [""]
    return declared.get("model_type") == "CrossEncoder" or architectures[0].endswith("ForSequenceClassification")


def _modules(folder: Path) -> Iterator[Path]:
    for module in _read_json(folder / "modules.json") or ():
        if module.get("path"):
            yield folder / module["path"]


def _read_json(file: Path) -> Any:
    return wire.from_json(file.read_bytes()) if file.exists() else None


def _chunks(texts: Iterable[Text], works: list[Work]) -> Iterator[list[Text]]:
    """The different ones among `texts`, those of like length together; none any more once nobody waits."""
    ordered = sorted(set(texts), key=lambda text: (len(text) if isinstance(text, str) else len(text[1]), text))
    for start in range(0, len(ordered), _CHUNK):
        if all(work.is_abandoned for work in works):
            return
        yield ordered[start : start + _CHUNK]


def _request(work: Work) -> RerankRequest:
    assert isinstance(work.request, RerankRequest)
    return work.request


def _finish(work: Work, scores: list[float]) -> None:
    if all(map(math.isfinite, scores)):
        work.finish(RerankAnswer(scores))
    else:
        work.fail(BackendError("The model gave a score that is not a finite number; its weights may be damaged."))


class _CrossEncoder:
    def __init__(self, model: CrossEncoder) -> None:
        if model.num_labels != 1:
            raise ValueError(f"it gives {model.num_labels} numbers for a pair of texts, where a ranking needs one")
        self._model = model

    def rerank(self, works: list[Work]) -> None:
        pairs = [(request.query, item) for request in map(_request, works) for item in request.items]
        scores: dict[tuple[str, str], float] = {}
        for chunk in _chunks(pairs, works):
            predicted = self._model.predict(chunk, batch_size=_CHUNK, show_progress_bar=False)
            scores.update(zip(chunk, predicted.tolist(), strict=True))
        for work in works:
            if not work.is_abandoned:
                request = _request(work)
                _finish(work, [scores[request.query, item] for item in request.items])


class _BiEncoder:
    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    def rerank(self, works: list[Work]) -> None:
        requests = [_request(work) for work in works]
        queries = self._embed(self._model.encode_query, (request.query for request in requests), works)
        items = self._embed(self._model.encode_document, (item for r in requests for item in r.items), works)
        for work, request in zip(works, requests, strict=True):
            if not work.is_abandoned:
                passages_BD = torch.stack([items[item] for item in request.items])
                # Row by row: a matrix product may round equal rows differently.
                _finish(work, (passages_BD * queries[request.query]).sum(dim=1).tolist())

    def _embed(self, encode: Any, texts: Iterable[str], works: list[Work]) -> dict[str, torch.Tensor]:
        """Each text's embedding, of length one."""
        embeddings: dict[str, torch.Tensor] = {}
        for chunk in _chunks(texts, works):
            vectors_BD = encode(chunk, batch_size=_CHUNK, show_progress_bar=False, convert_to_tensor=True)
            embeddings.update(zip(chunk, normalize(vectors_BD.float(), dim=-1).cpu(), strict=True))
        return embeddings


class LikelihoodReranker:
    """Ranks by a causal language model."""

    def __init__(self, language_model: LanguageModel) -> None:
        self._language_model = language_model

    def rerank(self, works: list[Work]) -> None:
        for work in works:
            try:
                self._rerank(work)
            except InvalidRequestError as error:
                work.fail(error)

    def _rerank(self, work: Work) -> None:
        request, tokenizer = _request(work), self._language_model.tokenizer
        query_ids = tokenizer(request.query, add_special_tokens=False)["input_ids"]
        # The words of the paper's prompt.
        end_ids = tokenizer(". Please write a question based on this passage. ", add_special_tokens=False)["input_ids"]
        context = self._language_model.context
        room = None if context is None else context - len(query_ids) - len(end_ids)
        if not query_ids or (room is not None and room <= 0):
            raise InvalidRequestError(
                f"The query has {len(query_ids)} tokens; {self._language_model.model_id} ranks by queries of at least "
                "one that leave room for a passage in its context.",
                pointer="/query",
            )
        prefixes = {item: tokenizer(f"Passage: {item}")["input_ids"][:room] + end_ids for item in set(request.items)}
        scores: dict[str, float] = {}
        with self._language_model.active() as model:
            for chunk in _chunks(prefixes, [work]):
                found = mean_log_likelihoods(model, [prefixes[item] for item in chunk], query_ids)
                scores.update(zip(chunk, found, strict=True))
        if not work.is_abandoned:
            _finish(work, [scores[item] for item in request.items])
