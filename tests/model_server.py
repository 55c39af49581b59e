"""A stand-in for somebody's model server, on loopback: it speaks OpenAI's chat and completions and Cohere's rerank, and
records what it was asked. The code under test is ours; what is canned here is the other side."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from app_thread import serving

Answer = Callable[[dict[str, Any]], "str | dict[str, Any] | web.Response"]


class ModelServer:
    """Run it with `with ModelServer(answer) as server:`; `answer(body)` gives the text, a whole JSON answer, or a
    response, and may be exchanged. A text is streamed word by word, `pause_seconds` apart, to whoever asks for a stream;
    `num_left` counts those who left in the middle of one. `requests` holds each (path, body, headers) in the order of
    arrival."""

    def __init__(
        self, answer: Answer, *, delay_seconds: float = 0.0, pause_seconds: float = 0.0, port: int = 0
    ) -> None:
        self.answer = answer
        self.pause_seconds = pause_seconds
        self.num_left = 0
        self._delay_seconds = delay_seconds
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.in_flight = 0
        self.max_in_flight = 0
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/{path:.*}", self._handle)
        self._serving = serving(app, port, handler_cancellation=True)
        self.base_url = ""

    def __enter__(self) -> ModelServer:
        self.base_url = f"{self._serving.__enter__()}/v1"
        return self

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, body, dict(request.headers)))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._delay_seconds)
            answer = self.answer(body)
        finally:
            self.in_flight -= 1
        if isinstance(answer, web.Response):
            return answer
        if isinstance(answer, dict):
            return web.json_response(answer)
        if body.get("stream"):
            return await self._stream(request, body, answer)
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "text": answer}
        return web.json_response({"id": "x", "object": "chat.completion", "choices": [choice], "usage": _USAGE})

    async def _stream(self, request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        words = re.findall(r"\S+\s*", text)
        choices: list[dict[str, Any]] = [{"delta": {"content": word}, "text": word} for word in words]
        choices.append({"delta": {}, "text": "", "finish_reason": "stop"})
        events: list[dict[str, Any]] = [{"choices": [{"index": 0} | choice]} for choice in choices]
        if body.get("stream_options", {}).get("include_usage"):
            events.append({"choices": [], "usage": _USAGE})
        try:
            for event in events:
                await response.write(b": a comment\n\ndata: " + json.dumps(event).encode() + b"\n\n")
                await asyncio.sleep(self.pause_seconds)
            await response.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.num_left += 1
            raise
        return response


_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def last_user_text(body: dict[str, Any]) -> str:
    """The text of the last user turn of a chat request."""
    content = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
