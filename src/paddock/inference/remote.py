"""Models behind somebody's HTTP server: OpenAI's `/chat/completions` and `/completions`, and `/rerank` as Cohere and
Jina shape it, or text-embeddings-inference. vLLM, Ollama, llama.cpp and their like speak these.

A request that met a busy server waits until it is not (`adaptive_limit`), one that met a broken server is sent again a few
times; what the server answers is checked before
anyone computes with it. The key stands in the Authorization header and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from paddock.errors import BackendError, BackendTimeoutError, InvalidRequestError
from paddock.inference.adaptive_limit import AdaptiveLimit
from paddock.inference.engine import Generation, Message, Model, Relevance, Sampling
from paddock.inference.http_session import BoundedSession, OpenSession
from paddock.settings import Provider

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

log = logging.getLogger("paddock.inference")

_MAX_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.5

_SHOWN_CHARACTERS = 500


class _Message(msgspec.Struct):
    content: str | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _TextChoice(msgspec.Struct):
    text: str
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _ChatAnswer(msgspec.Struct):
    choices: list[_ChatChoice]
    usage: _Usage | None = None


class _TextAnswer(msgspec.Struct):
    choices: list[_TextChoice]
    usage: _Usage | None = None


class _Rank(msgspec.Struct):
    index: int
    relevance_score: float


class _RerankAnswer(msgspec.Struct):
    results: list[_Rank]


class _TeiRank(msgspec.Struct):
    index: int
    score: float


_TEI_BATCH_SIZE = 32
"""What text-embeddings-inference takes at once where it is not told otherwise (`--max-client-batch-size`)."""

Answer = TypeVar("Answer", _ChatAnswer, _TextAnswer, _RerankAnswer, list[_TeiRank])


Choice = TypeVar("Choice", _ChatChoice, _TextChoice)


class _BusyError(Exception):
    """The server takes no more at present; `reason` is what to say if it stays so."""

    def __init__(self, reason: str, retry_after_seconds: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class _BrokenError(Exception):
    """The server may answer the same request later; `reason` is what to say if it does not."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RemoteEngine:
    """The engine behind one configured provider."""

    def __init__(self, provider: Provider) -> None:
        self.max_concurrency = provider.config.max_concurrency
        self._name = f"The provider {provider.provider_id}"
        self._base_url = provider.config.base_url.rstrip("/")
        self._is_tei = provider.config.rerank_shape == "tei"
        self._rerank_batch_size = provider.config.rerank_batch_size or (_TEI_BATCH_SIZE if self._is_tei else None)
        headers = {"Authorization": f"Bearer {provider.config.api_key}", "Content-Type": "application/json"}

        def make_session() -> aiohttp.ClientSession:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=provider.config.timeout_seconds)
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers, timeout=timeout)

        self._max_busy_seconds = provider.config.max_busy_seconds
        self._session = BoundedSession(make_session, lambda: AdaptiveLimit(self.max_concurrency))

    async def chat(self, model: Model, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """See `Engine`."""
        body = {"model": model.provider_model_id, "messages": list(messages)} | _sampling_fields(sampling)
        answer, seconds = await self._ask("chat/completions", body, _ChatAnswer)
        choice = self._first(answer.choices)
        return _generation(choice.message.content or "", choice.finish_reason, answer.usage, seconds)

    async def complete(self, model: Model, prompt: str, sampling: Sampling) -> Generation:
        """See `Engine`."""
        body = {"model": model.provider_model_id, "prompt": prompt} | _sampling_fields(sampling)
        answer, seconds = await self._ask("completions", body, _TextAnswer)
        choice = self._first(answer.choices)
        return _generation(choice.text, choice.finish_reason, answer.usage, seconds)

    async def rerank(self, model: Model, query: Any, items: Sequence[Any]) -> Relevance:
        """See `Engine`. Text goes out as strings, images as vLLM takes them."""
        if self._is_tei:
            _refuse_images(query, items)
        query, documents = _to_rank(query), [_to_rank(item) for item in items]
        size = self._rerank_batch_size or len(documents)
        scores: list[float] = []
        for start in range(0, len(documents), size):
            scores += await self._rerank(model, query, documents[start : start + size])
        return Relevance(scores)

    async def _rerank(self, model: Model, query: Any, documents: list[Any]) -> list[float]:
        """The scores of one request, in the order of the documents. How the server ordered them is not relied on."""
        if self._is_tei:
            body = {"query": query, "texts": documents, "truncate": True}
            tei_ranks, _ = await self._ask("rerank", body, list[_TeiRank])
            found = [(rank.index, rank.score) for rank in tei_ranks]
        else:
            body = {"model": model.provider_model_id, "query": query, "documents": documents}
            answer, _ = await self._ask("rerank", body, _RerankAnswer)
            found = [(rank.index, rank.relevance_score) for rank in answer.results]
        scores = dict(found)
        if len(found) != len(documents) or scores.keys() != set(range(len(documents))):
            raise BackendError(f"{self._name} did not score each of the {len(documents)} items once.")
        if not all(map(math.isfinite, scores.values())):
            raise BackendError(f"{self._name} gave a score that is not a finite number.")
        return [scores[index] for index in range(len(documents))]

    def check_image(self, model: Model, url: str) -> None:
        """See `Engine`. What its models see is the server's to say."""

    async def close(self) -> None:
        """See `Engine`."""
        await self._session.close()

    def _first(self, choices: list[Choice]) -> Choice:
        if not choices:
            raise BackendError(f"{self._name} answered without a choice.")
        return choices[0]

    async def _ask(self, path: str, body: dict[str, Any], answer_type: type[Answer]) -> tuple[Answer, float]:
        """The answer, and the seconds it took. A place is held through the pauses: a server that is busy gets no more."""
        content = msgspec.json.encode(body)
        opened = self._session.open()
        async with opened.limit:
            started_at = time.perf_counter()
            raw = await self._insist(opened, path, content)
            seconds = time.perf_counter() - started_at
        try:
            return msgspec.json.decode(raw, type=answer_type), seconds
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BackendError(f"{self._name} gave an answer that cannot be read: {error}.") from None

    async def _insist(self, opened: OpenSession[AdaptiveLimit], path: str, content: bytes) -> bytes:
        """The server's answer, asked for again where it is busy (as long as it may be) or broken (a few times)."""
        limit, num_failures, num_refusals = opened.limit, 0, 0
        give_up_at = time.monotonic() + self._max_busy_seconds
        while True:
            await limit.until_open()
            sent_at = time.monotonic()
            try:
                raw = await self._post(opened.session, path, content)
            except _BusyError as refusal:
                num_refusals += 1
                if time.monotonic() + (refusal.retry_after_seconds or 0.0) > give_up_at:
                    raise BackendError(f"{refusal.reason} It stayed so for {self._max_busy_seconds:g} s.") from None
                limit.refused(refusal.retry_after_seconds)
                await limit.pause(num_refusals)
            except _BrokenError as failure:
                num_failures += 1
                if num_failures == _MAX_ATTEMPTS:
                    raise BackendError(failure.reason) from None
                pause = _FIRST_PAUSE_SECONDS * 2.0 ** (num_failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
                log.info("%s Trying again in %.1f s.", failure.reason, pause)
                await asyncio.sleep(pause)
            else:
                limit.answered(time.monotonic() - sent_at)
                return raw

    async def _post(self, session: aiohttp.ClientSession, path: str, content: bytes) -> bytes:
        import aiohttp

        try:
            # No redirects: they would carry the key to wherever the server points.
            async with session.post(f"{self._base_url}/{path}", data=content, allow_redirects=False) as response:
                raw = await response.read()
        except TimeoutError:
            raise BackendTimeoutError(f"{self._name} did not answer in time.") from None
        except aiohttp.ClientError as error:
            raise _BrokenError(f"{self._name} cannot be reached ({type(error).__name__}).") from None
        status = response.status
        if status == 200:
            return raw
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            raise _BusyError(f"{self._name} is busy (HTTP {status}).", _retry_after(response))
        if status == 408 or status >= 500:
            raise _BrokenError(f"{self._name} answered HTTP {status}.")
        if 400 <= status < 500 and status not in (401, 403):
            raise InvalidRequestError(f"{self._name} refused the request (HTTP {status}): {_message(raw)}")
        raise BackendError(f"{self._name} answered HTTP {status}. Its `base_url` or `api_key` may be wrong.")


def _sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """What is asked for, and nothing else: `top_k` and `repetition_penalty` are no fields of OpenAI's own API, though vLLM
    and its like know them. Where they restrict nothing, a server that lacks them need not see them."""
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    optional = {
        "max_tokens": sampling.max_tokens,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "repetition_penalty": sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}


def _generation(text: str, finish_reason: str | None, usage: _Usage | None, seconds: float) -> Generation:
    usage = usage or _Usage()
    reason = "length" if finish_reason == "length" else "stop"
    return Generation(text, reason, usage.prompt_tokens, usage.completion_tokens, seconds)


def _refuse_images(query: Any, items: Sequence[Any]) -> None:
    for pointer, item in (("/query", query), *((f"/items/{index}", item) for index, item in enumerate(items))):
        if not isinstance(item, str) and item["type"] != "text":
            raise InvalidRequestError(f"{pointer} is an image, and its provider ranks text only.", pointer=pointer)


def _to_rank(item: Any) -> Any:
    """Cohere and Jina have no images beside texts in one request; vLLM has them as the content of an object."""
    if isinstance(item, str):
        return item
    return item["text"] if item["type"] == "text" else {"content": [item]}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The seconds that the header asks for, given as such or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _message(raw: bytes) -> str:
    """The server's own words, from where OpenAI-like servers put them."""
    try:
        answer = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    words: Any = raw.decode(errors="replace")
    if isinstance(answer, dict):
        error = answer.get("error")
        inner = error.get("message") if isinstance(error, dict) else error
        words = inner or answer.get("message") or answer.get("detail") or words
    return str(words).strip()[:_SHOWN_CHARACTERS] or "no reason given"
