"""Models on this machine: a client of the engine process, in the server and in the processes of evaluation jobs alike.

What can be told before a request goes out is told here: content parts of text are joined, images are refused that the
model cannot see.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from paddock.egress import Egress
from paddock.errors import BackendAwayError, BackendError, BackendTimeoutError, InvalidRequestError
from paddock.inference.bounded_body import lines
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
from paddock.inference.engine_messages import (
    ChatRequest,
    CompletionRequest,
    Failure,
    GenerationAnswer,
    LikelihoodRequest,
    Line,
    LocalModel,
    Request,
    RerankAnswer,
    RerankRequest,
)
from paddock.inference.http_session import BoundedSession
from paddock.inference.linked_images import LinkedImages
from paddock.inference.local_models import model_files

if TYPE_CHECKING:  # a fifth of a second that a server without model calls need not spend
    import aiohttp

DEADLINE_SECONDS = 600.0
"""A request that took so long, waiting and loading included, is given up."""

_MAX_CONNECTIONS = 256  # enough to fill several batches; the engine has the queue

Answer = TypeVar("Answer", GenerationAnswer, RerankAnswer, Likelihoods)


class LocalEngine:
    """The engine behind the provider `local`."""

    max_concurrency = 64

    def __init__(
        self,
        socket_path: Path,
        checkpoint_root: Path,
        egress: Egress,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._checkpoint_root = checkpoint_root
        self._linked_images = LinkedImages(egress)

        def make_session() -> aiohttp.ClientSession:
            import aiohttp

            # Connections are not kept: hanging up is how a request is taken back, and one to a process that died is
            # worth nothing.
            connector = aiohttp.UnixConnector(str(socket_path), limit=0, force_close=True)
            timeout = aiohttp.ClientTimeout(total=deadline_seconds)
            return aiohttp.ClientSession(connector=connector, timeout=timeout)

        self._session = BoundedSession(make_session, lambda: asyncio.Semaphore(_MAX_CONNECTIONS))

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
        turns = [message | {"content": await self._content(model, message, i)} for i, message in enumerate(messages)]
        request = ChatRequest(self._files(model), turns, sampling, tools, in_pieces=on_piece is not None)
        return await self._generate(request, on_piece)

    async def complete(
        self, model: Model, prompt: str, sampling: Sampling, *, echo: bool = False, on_piece: OnPiece | None = None
    ) -> Generation:
        """See `Engine`."""
        request = CompletionRequest(self._files(model), prompt, sampling, echo=echo, in_pieces=on_piece is not None)
        return await self._generate(request, on_piece)

    async def log_likelihoods(self, model: Model, context: str, continuations: Sequence[str]) -> Likelihoods:
        """See `Engine`."""
        request = LikelihoodRequest(self._files(model), context, list(continuations))
        return await self._ask("likelihood", request, Likelihoods)

    async def rerank(self, model: Model, query: Any, items: Sequence[Any]) -> Relevance:
        """See `Engine`."""
        texts = [_text_to_rank(item, f"/items/{index}", model.model_id) for index, item in enumerate(items)]
        request = RerankRequest(self._files(model), _text_to_rank(query, "/query", model.model_id), texts)
        answer = await self._ask("rerank", request, RerankAnswer)
        return Relevance(answer.scores, answer.truncated)

    def check_image(self, model: Model, url: str) -> None:
        """See `Engine`."""
        weights = self._files(model).weights
        # What a hub id stands for is known once it is fetched: then the engine process says the same.
        if Path(weights).is_absolute() and not model_files.reads_images(Path(weights)):
            raise InvalidRequestError(f"The model {model.model_id} reads text only.")
        if not url.startswith("data:"):
            self._linked_images.check(url)

    def folders(self, model: Model) -> Sequence[str]:
        """See `Engine`."""
        files = self._files(model)
        return [files.weights] if files.adapter is None else [files.adapter, files.weights]

    async def close(self) -> None:
        """See `Engine`."""
        await self._session.close()

    async def _content(self, model: Model, message: Message, index: int) -> Any:
        """A turn's text, or its parts where there are images among them, as data. Raises `InvalidRequestError` naming the
        part that the model cannot read."""
        content = message["content"]
        if content is None or isinstance(content, str):
            return content
        parts = list(content)
        for part_index, part in enumerate(parts):
            if part["type"] == "image_url":
                image = part["image_url"]
                try:
                    self.check_image(model, image["url"])
                    if not image["url"].startswith("data:"):
                        data_url = await self._linked_images.data_url(image["url"])
                        parts[part_index] = part | {"image_url": image | {"url": data_url}}
                except InvalidRequestError as error:
                    raise InvalidRequestError(
                        f"Part {part_index} of message {index} is an image. {error.detail}",
                        pointer=f"/messages/{index}/content/{part_index}",
                    ) from None
        if all(part["type"] == "text" for part in parts):
            return "".join(part["text"] for part in parts)
        return parts

    def _files(self, model: Model) -> LocalModel:
        return LocalModel.of(model, self._checkpoint_root)

    async def _generate(self, request: ChatRequest | CompletionRequest, on_piece: OnPiece | None) -> Generation:
        started_at = time.perf_counter()
        if on_piece is None:
            answer = await self._ask("generate", request, GenerationAnswer)
        else:
            answer = await self._ask_in_pieces(request, on_piece)
        return Generation(
            text=answer.text,
            finish_reason=answer.finish_reason,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_generated_tokens=answer.num_generated_tokens,
            num_prefilled_tokens=answer.num_prefilled_tokens,
            latency_seconds=time.perf_counter() - started_at,
            tokens=answer.tokens,
            tool_calls=answer.tool_calls,
        )

    async def _ask(self, path: str, request: Request, answer_type: type[Answer]) -> Answer:
        async with self._posted(path, request) as response:
            content = await response.read()
        answer: Answer = _decoded(content, answer_type)
        return answer

    async def _ask_in_pieces(self, request: ChatRequest | CompletionRequest, on_piece: OnPiece) -> GenerationAnswer:
        async with self._posted("generate", request) as response:
            async for content in lines(response):
                line = _decoded(content, Line)
                if isinstance(line, Failure):
                    raise line.to_error()
                if isinstance(line, GenerationAnswer):
                    return line
                await on_piece(Piece(line.text, line.tokens))
        raise _ended()

    @contextlib.asynccontextmanager
    async def _posted(self, path: str, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """The engine's answer to a request, which is no failure. Whatever of it fails to come is an error of ours."""
        import aiohttp

        body = msgspec.json.encode(request)
        opened = self._session.open()
        try:
            async with opened.limit, opened.session.post(f"http://engine/{path}", data=body) as response:
                if response.status != 200:
                    raise _decoded(await response.read(), Failure).to_error()
                yield response
        except TimeoutError:
            raise BackendTimeoutError("The engine for local models did not answer in time.") from None
        except aiohttp.ClientConnectorError:
            raise BackendAwayError("The engine for local models is not there: no server runs on this folder.") from None
        except aiohttp.ClientError:
            raise _ended() from None


def _ended() -> BackendError:
    return BackendError(
        "The engine for local models ended before it answered; the server's log says how. A repetition starts it anew."
    )


def _decoded(content: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError:
        raise BackendError("The engine for local models gave an answer that cannot be read.") from None


def _text_to_rank(item: Any, pointer: str, model_id: str) -> str:
    if isinstance(item, str):
        return item
    if item.get("type") != "text":
        raise InvalidRequestError(f"{pointer} is an image, and the model {model_id} ranks text only.", pointer=pointer)
    text: str = item["text"]
    return text
