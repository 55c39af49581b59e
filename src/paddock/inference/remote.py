"""Models behind somebody's HTTP server: OpenAI's `/chat/completions` and `/completions`, and `/rerank` as Cohere and
Jina shape it, or text-embeddings-inference. vLLM, Ollama, llama.cpp and their like speak these.

A request that met a busy server waits for its turn (`adaptive_limit`), one that met a broken server is sent again a few
times; what the server answers is checked before anyone computes with it. The key stands in the Authorization header and
nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from paddock.errors import BackendAwayError, BackendError, BackendSetupError, BackendTimeoutError, InvalidRequestError
from paddock.inference import bounded_body, remote_answers, remote_rerank
from paddock.inference.adaptive_limit import AdaptiveLimit
from paddock.inference.bounded_body import TooLongError
from paddock.inference.engine import (
    Generation,
    Likelihoods,
    Message,
    Model,
    OnPiece,
    Piece,
    Relevance,
    Sampling,
    Tools,
)
from paddock.inference.http_session import BoundedSession, OpenSession
from paddock.inference.remote_answers import Written
from paddock.settings import Provider

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

log = logging.getLogger("paddock.inference")

_MAX_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.5

_AWAY_STATUSES = (502, 503, 504)
"""What stands before a server says so when there is none behind it; 500 is a server's answer to this one request."""

_SHOWN_CHARACTERS = 500

MAX_ANSWER_BYTES = 2**26
"""What is read of an answer in one piece: a long prompt's tokens with their log-probabilities have some megabytes."""
MAX_STREAM_BYTES = 2**28
"""What is read of a stream, whose events wrap each token anew."""
MAX_EVENT_BYTES = 2**24
_MAX_REFUSAL_BYTES = 2**20

_NEEDS_ECHO = (
    "Multiple choice by log-likelihood needs a server that gives the log-probabilities of a prompt: `/completions` with "
    "`echo` and `logprobs`, as vLLM has it."
)


Read = TypeVar("Read")


class _BusyError(Exception):
    """The server takes no more at present; `reason` is what to say if it stays so."""

    def __init__(self, reason: str, retry_after_seconds: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class _BrokenError(Exception):
    """The server may answer the same request later; `error` is what to raise if it does not."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(error.detail)
        self.error = error


class RemoteEngine:
    """The engine behind one configured provider."""

    def __init__(self, provider: Provider) -> None:
        self.max_concurrency = provider.config.max_concurrency
        self._name = f"The provider {provider.provider_id}"
        self._base_url = provider.config.base_url.rstrip("/")
        self._rerank_shape = provider.config.rerank_shape
        usual_size = remote_rerank.TEI_BATCH_SIZE if self._rerank_shape == "tei" else None
        self._rerank_batch_size = provider.config.rerank_batch_size or usual_size
        headers = {"Authorization": f"Bearer {provider.config.api_key}", "Content-Type": "application/json"}

        def make_session() -> aiohttp.ClientSession:
            import aiohttp

            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=provider.config.timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),  # requests have nothing to do with each other
            )

        self._max_busy_seconds = provider.config.max_busy_seconds
        self._session = BoundedSession(make_session, lambda: AdaptiveLimit(self.max_concurrency))

    async def chat(
        self,
        model: Model,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        tools: Tools | None = None,
        on_piece: OnPiece | None = None,
    ) -> Generation:
        """See `Engine`."""
        body = {"model": model.provider_model_id, "messages": list(messages)} | _sampling_fields(sampling)
        if sampling.num_likely is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.num_likely}
        if tools is not None:
            body |= {"tools": list(tools.functions), "tool_choice": _tool_choice(tools)}
        return await self._generate("chat/completions", body, on_piece)

    async def complete(
        self, model: Model, prompt: str, sampling: Sampling, *, echo: bool = False, on_piece: OnPiece | None = None
    ) -> Generation:
        """See `Engine`."""
        body = {"model": model.provider_model_id, "prompt": prompt} | _sampling_fields(sampling)
        if sampling.num_likely is not None:
            body |= {"logprobs": sampling.num_likely}
        if echo:
            body |= {"echo": True}
        generation = await self._generate("completions", body, on_piece)
        if echo and not generation.text.startswith(prompt):
            raise InvalidRequestError(f"{self._name} does not echo a prompt.", pointer="/echo")
        return generation

    async def log_likelihoods(self, model: Model, context: str, continuations: Sequence[str]) -> Likelihoods:
        """See `Engine`. All in one request: the context by itself, which tells how many tokens it has, then the whole
        texts, each echoed with the log-probabilities of its tokens."""
        prompts = [context.rstrip(), *(context + continuation for continuation in continuations)]
        if not prompts[0]:
            raise InvalidRequestError(f"The context is empty, and {_lower(self._name)} tells nothing of a first token.")
        body = {
            "model": model.provider_model_id,
            "prompt": prompts,
            "max_tokens": 0,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        try:
            raw, _ = await self._ask("completions", body, _whole_body)
            of_context, *of_texts = remote_answers.prompt_log_probs(self._name, raw, prompts)
        except (InvalidRequestError, BackendSetupError) as error:
            raise type(error)(f"{error.detail} {_NEEDS_ECHO}") from None
        found = [of_text[len(of_context) :] for of_text in of_texts]
        for index, log_probs in enumerate(found):
            if not log_probs:
                raise InvalidRequestError(f"Continuation {index} adds no token to the text before it.")
        return Likelihoods([math.fsum(log_probs) for log_probs in found], list(map(len, found)))

    async def rerank(self, model: Model, query: Any, items: Sequence[Any]) -> Relevance:
        """See `Engine`. Text goes out as strings, images as vLLM takes them."""
        if self._rerank_shape == "tei":
            remote_rerank.refuse_images(query, items)
        query, documents = remote_rerank.to_rank(query), list(map(remote_rerank.to_rank, items))
        size = self._rerank_batch_size or len(documents)
        scores: list[float] = []
        for start in range(0, len(documents), size):
            part = documents[start : start + size]
            body = remote_rerank.request(self._rerank_shape, model.provider_model_id, query, part)
            raw, _ = await self._ask("rerank", body, _whole_body)
            scores += remote_rerank.scores(self._rerank_shape, self._name, raw, len(part))
        return Relevance(scores)

    def folders(self, model: Model) -> Sequence[str]:
        """See `Engine`."""
        return ()

    def check_image(self, model: Model, url: str) -> None:
        """See `Engine`. What its models see is the server's to say."""

    async def close(self) -> None:
        """See `Engine`."""
        await self._session.close()

    async def _generate(self, path: str, body: dict[str, Any], on_piece: OnPiece | None) -> Generation:
        is_chat = path.startswith("chat/")

        async def read(response: aiohttp.ClientResponse) -> Written:
            # Servers that know no streams answer in one.
            if on_piece is not None and response.content_type == "text/event-stream":
                return await self._read_events(response, on_piece, is_chat=is_chat)
            written = remote_answers.whole(self._name, await _whole_body(response), is_chat=is_chat)
            if on_piece is not None:
                await on_piece(Piece("".join(written.texts), tuple(written.tokens or ())))
            return written

        if on_piece is not None:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        written, seconds = await self._ask(path, body, read)
        return written.generation(seconds)

    async def _read_events(self, response: aiohttp.ClientResponse, on_piece: OnPiece, *, is_chat: bool) -> Written:
        """A stream's events. Once it has begun it is not asked for again: somebody may have read its beginning."""
        import aiohttp

        try:
            events = bounded_body.lines(response, MAX_EVENT_BYTES, MAX_STREAM_BYTES)
            return await remote_answers.from_events(self._name, events, on_piece, is_chat=is_chat)
        except aiohttp.ClientError:
            raise BackendError(f"{self._name} broke off its answer.") from None

    async def _ask(
        self, path: str, body: dict[str, Any], read: Callable[[aiohttp.ClientResponse], Awaitable[Read]]
    ) -> tuple[Read, float]:
        """What `read` makes of the answer, and the seconds it took. A place is held through the pauses: a server that is
        busy gets no more."""
        content = msgspec.json.encode(body)
        opened = self._session.open()
        async with opened.limit:
            started_at = time.perf_counter()
            answer = await self._insist(opened, path, content, read)
            return answer, time.perf_counter() - started_at

    async def _insist(
        self,
        opened: OpenSession[AdaptiveLimit],
        path: str,
        content: bytes,
        read: Callable[[aiohttp.ClientResponse], Awaitable[Read]],
    ) -> Read:
        """The server's answer, asked for again where it is busy (as long as it may be) or broken (a few times)."""
        limit, num_failures = opened.limit, 0
        began_at = time.monotonic()
        while True:
            await self._turn(limit, began_at)
            sent_at = time.monotonic()
            try:
                answer = await self._post(opened.session, path, content, read)
            except _BusyError as refusal:
                if time.monotonic() + (refusal.retry_after_seconds or 0.0) > self._give_up_at(limit, began_at):
                    raise self._stays_busy(refusal.reason) from None
                limit.refused(refusal.retry_after_seconds)
            except _BrokenError as failure:
                num_failures += 1
                if num_failures == _MAX_ATTEMPTS:
                    raise failure.error from None
                pause = _FIRST_PAUSE_SECONDS * 2.0 ** (num_failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
                log.info("%s Trying again in %.1f s.", failure.error.detail, pause)
                await asyncio.sleep(pause)
            else:
                limit.answered(time.monotonic() - sent_at)
                return answer

    async def _turn(self, limit: AdaptiveLimit, began_at: float) -> None:
        """Wait for a turn of a request that began then. Raises `BackendAwayError` when nobody was answered for too long."""
        if limit.is_open:  # without a timer, of which there would be one a request
            return
        while True:
            try:
                async with asyncio.timeout(self._give_up_at(limit, began_at) - time.monotonic()):
                    await limit.turn()
                    return
            except TimeoutError:
                if time.monotonic() >= self._give_up_at(limit, began_at):
                    raise self._stays_busy(f"{self._name} is busy.") from None

    def _give_up_at(self, limit: AdaptiveLimit, began_at: float) -> float:
        """A server that answers others is not away, however long it lets one wait."""
        return max(began_at, limit.answered_at) + self._max_busy_seconds

    def _stays_busy(self, reason: str) -> BackendAwayError:
        return BackendAwayError(f"{reason} It stayed so for {self._max_busy_seconds:g} s.")

    async def _post(
        self,
        session: aiohttp.ClientSession,
        path: str,
        content: bytes,
        read: Callable[[aiohttp.ClientResponse], Awaitable[Read]],
    ) -> Read:
        import aiohttp

        try:
            # No redirects: they would carry the key to wherever the server points.
            async with session.post(f"{self._base_url}/{path}", data=content, allow_redirects=False) as response:
                if response.status == 200:
                    return await read(response)
                reason = await _refusal(response)
        except TimeoutError:
            raise BackendTimeoutError(f"{self._name} did not answer in time.") from None
        except aiohttp.ClientError as error:
            away = BackendAwayError(f"{self._name} cannot be reached ({type(error).__name__}).")
            raise _BrokenError(away) from None
        except TooLongError as error:
            raise BackendError(
                f"{self._name} sent more than {error.max_bytes / 2**20:g} MiB in one {error.unit}; the rest was not read."
            ) from None
        status = response.status
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            raise _BusyError(f"{self._name} is busy (HTTP {status}).", _retry_after(response))
        if status == 408 or status >= 500:
            broken = BackendAwayError if status in _AWAY_STATUSES else BackendError
            raise _BrokenError(broken(f"{self._name} answered HTTP {status}."))
        if status == 404:
            raise BackendSetupError(
                f"{self._name} answered HTTP 404: {reason} "
                "The model's `provider_model_id` or the provider's `base_url` may be wrong."
            )
        if 400 <= status < 500 and status not in (401, 403):
            raise InvalidRequestError(f"{self._name} refused the request (HTTP {status}): {reason}")
        # Not in its own words: some servers repeat the key.
        raise BackendSetupError(f"{self._name} answered HTTP {status}. Its `base_url` or `api_key` may be wrong.")


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
        "response_format": sampling.response_format,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}


def _lower(name: str) -> str:
    """The server's name inside of a sentence."""
    return name[0].lower() + name[1:]


def _tool_choice(tools: Tools) -> Any:
    if not tools.required:
        return "auto"
    if len(tools.required) == len(tools.functions):
        return "required"
    return {"type": "function", "function": {"name": tools.required[0]}}


async def _whole_body(response: aiohttp.ClientResponse) -> bytes:
    return await bounded_body.whole(response, MAX_ANSWER_BYTES)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The seconds that the header asks for, given as such or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """The server's own words, from where OpenAI-like servers put them."""
    try:
        raw = await bounded_body.whole(response, _MAX_REFUSAL_BYTES)
    except TooLongError:
        return "its reason is too long to be read."
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
