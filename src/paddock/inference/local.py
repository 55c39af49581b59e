"""Models on this machine: a client of the engine process, in the server and in the processes of evaluation jobs alike.

What can be told before a request goes out is told here: content parts of text are joined, images are refused that the
model cannot see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from paddock.egress import Egress
from paddock.errors import BackendError, BackendTimeoutError, InvalidRequestError
from paddock.inference.engine import Generation, Message, Model, Relevance, Sampling
from paddock.inference.engine_messages import (
    PRECISION,
    ChatRequest,
    CompletionRequest,
    Failure,
    GenerationAnswer,
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

Answer = TypeVar("Answer", GenerationAnswer, RerankAnswer)


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

    async def chat(self, model: Model, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """See `Engine`."""
        turns = [message | {"content": await self._content(model, message, i)} for i, message in enumerate(messages)]
        return await self._generate(ChatRequest(self._files(model), turns, sampling))

    async def complete(self, model: Model, prompt: str, sampling: Sampling) -> Generation:
        """See `Engine`."""
        return await self._generate(CompletionRequest(self._files(model), prompt, sampling))

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

    async def close(self) -> None:
        """See `Engine`."""
        await self._session.close()

    async def _content(self, model: Model, message: Message, index: int) -> Any:
        """A turn's text, or its parts where there are images among them, as data. Raises `InvalidRequestError` naming the
        part that the model cannot read."""
        content = message["content"]
        if isinstance(content, str):
            return content
        parts = list(content or [])
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
        if model.job_id is None:
            precision = model.metadata.get(PRECISION, "fp32")
            return LocalModel(model.model_id, model.provider_model_id, precision=precision)
        folder = str(self._checkpoint_root / model.provider_model_id)
        if model.base_model is None:
            return LocalModel(model.model_id, folder)
        return LocalModel(model.model_id, model.base_model, folder)

    async def _generate(self, request: ChatRequest | CompletionRequest) -> Generation:
        started_at = time.perf_counter()
        answer = await self._ask("generate", request, GenerationAnswer)
        return Generation(
            text=answer.text,
            finish_reason=answer.finish_reason,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_generated_tokens=answer.num_generated_tokens,
            latency_seconds=time.perf_counter() - started_at,
        )

    async def _ask(self, path: str, request: Request, answer_type: type[Answer]) -> Answer:
        import aiohttp

        body = msgspec.json.encode(request)
        opened = self._session.open()
        try:
            async with opened.limit, opened.session.post(f"http://engine/{path}", data=body) as response:
                content = await response.read()
        except TimeoutError:
            raise BackendTimeoutError("The engine for local models did not answer in time.") from None
        except aiohttp.ClientConnectorError:
            raise BackendError("The engine for local models is not there: no server runs on this folder.") from None
        except aiohttp.ClientError:
            raise BackendError(
                "The engine for local models ended before it answered; the server's log says how. "
                "A repetition starts it anew."
            ) from None
        try:
            if response.status != 200:
                raise msgspec.json.decode(content, type=Failure).to_error()
            return msgspec.json.decode(content, type=answer_type)
        except msgspec.DecodeError:
            raise BackendError("The engine for local models gave an answer that cannot be read.") from None


def _text_to_rank(item: Any, pointer: str, model_id: str) -> str:
    if isinstance(item, str):
        return item
    if item.get("type") != "text":
        raise InvalidRequestError(f"{pointer} is an image, and the model {model_id} ranks text only.", pointer=pointer)
    text: str = item["text"]
    return text
