"""The process that holds local models: JSON over HTTP on a unix socket that the server handed down.

The event loop talks to clients; one worker thread does all that takes tensors, so that models never compete for the
same cores. A client that hangs up takes its request back, waiting or running. Which requests go together is
`queue`'s choice, what is in memory `loading`'s, and the computing that of `language_model` and `rerankers`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from paddock.errors import BackendError, InvalidRequestError, PaddockError
from paddock.inference.engine_messages import (
    BACKLOG,
    ChatRequest,
    CompletionRequest,
    Failure,
    LikelihoodRequest,
    Line,
    LocalModel,
    PieceOfAnswer,
    Request,
    RerankRequest,
)
from paddock.inference.local_models import model_files
from paddock.inference.local_models.model_files import ModelFiles
from paddock.inference.local_models.queue import Pieces, Queue, Work
from paddock.inference.local_models.ranking import rank
from paddock.settings import Settings

if TYPE_CHECKING:
    from paddock.inference.local_models.loading import LoadedModels

log = logging.getLogger("paddock.engine")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_MAX_RANKINGS = 256
"""Rerank requests that take turns with one another; more wait."""

_MAX_BODY_BYTES = 2**30  # the server has bounded its clients' requests by now

_encoder = msgspec.json.Encoder()
_generate_decoder = msgspec.json.Decoder(ChatRequest | CompletionRequest)
_rerank_decoder = msgspec.json.Decoder(RerankRequest)
_likelihood_decoder = msgspec.json.Decoder(LikelihoodRequest)


def run(settings: Settings, socket_descriptor: int) -> None:
    """Serve on the listening socket until SIGTERM; does not return."""
    _keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    asyncio.run(_serve(settings, socket.socket(fileno=socket_descriptor)))
    log.info("Ending, as asked.")
    logging.shutdown()
    # The worker may be deep inside a computation: an orderly end of the interpreter would wait for it or crash on it.
    os._exit(0)


def _keep_freed_memory() -> None:
    """Tensors of a few megabytes come and go with each layer. glibc would give their pages back to the kernel each time,
    and have them zeroed anew: with the defaults a third of a reranker's time, and at times more."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not there on macOS
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**25)
        mallopt(_M_TRIM_THRESHOLD, 2**27)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    queue = Queue(settings.max_batch_size)
    threading.Thread(target=_Worker(settings, queue).run, name="worker", daemon=True).start()
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    finder = _Finder()
    app.router.add_post("/generate", lambda request: _handle(request, queue, finder, _generate_decoder))
    app.router.add_post("/rerank", lambda request: _handle(request, queue, finder, _rerank_decoder))
    app.router.add_post("/likelihood", lambda request: _handle(request, queue, finder, _likelihood_decoder))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
    await runner.setup()
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
    # Ctrl-C in a terminal is for the server, which then tells this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    log.info("The engine is process %d.", os.getpid())
    await asked_to_end.wait()
    await runner.cleanup()


async def _handle(
    request: web.Request, queue: Queue, finder: _Finder, decoder: msgspec.json.Decoder[Any]
) -> web.StreamResponse:
    try:
        asked: Request = decoder.decode(await request.read())
        files = await finder.find(asked.model)
        if isinstance(asked, ChatRequest | CompletionRequest) and asked.in_pieces:
            return await _answer_in_pieces(request, queue, asked, files)
        work = Work(asked, files)
        queue.submit(work)
        # If the client hangs up, this is cancelled, and cancels the work with it.
        answer = await asyncio.wrap_future(work.answer)
    except msgspec.DecodeError as error:
        return _failed(InvalidRequestError(f"The engine cannot read this request: {error}"))
    except PaddockError as error:
        return _failed(error)
    return web.Response(body=_encoder.encode(answer), content_type="application/json")


async def _answer_in_pieces(
    request: web.Request, queue: Queue, asked: ChatRequest | CompletionRequest, files: ModelFiles
) -> web.StreamResponse:
    """Lines of JSON as the answer comes. Raises `PaddockError` if it fails before the first; afterwards that is a line."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        loop.call_soon_threadsafe(changed.set)

    pieces = Pieces(notify)
    work = Work(asked, files, pieces)
    answer = asyncio.wrap_future(work.answer)
    answer.add_done_callback(lambda _answer: changed.set())
    queue.submit(work)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    try:
        while True:
            await changed.wait()
            changed.clear()
            # In this order: what was put before the answer was done is still taken before it.
            is_done = answer.done()
            if is_done and not response.prepared and answer.exception() is not None:
                answer.result()
            if not response.prepared:
                await response.prepare(request)
            if (piece := pieces.take()) is not None:
                await _write_line(response, PieceOfAnswer(piece.text, piece.tokens))
            if is_done:
                await _write_line(response, _last_line(answer))
                return response
    except ConnectionError:  # the client has left
        return response
    finally:
        answer.cancel()


def _last_line(answer: asyncio.Future[Any]) -> Line:
    try:
        last: Line = answer.result()
    except PaddockError as error:
        return Failure.of(error)
    return last


async def _write_line(response: web.StreamResponse, line: Line) -> None:
    await response.write(_encoder.encode(line) + b"\n")


def _failed(error: PaddockError) -> web.Response:
    body = _encoder.encode(Failure.of(error))
    return web.Response(status=error.status, body=body, content_type="application/json")


class _Finder:
    """Finds models' files. Requests that wait for the same download wait for one, which none of them can stop."""

    def __init__(self) -> None:
        self._running: dict[LocalModel, asyncio.Task[ModelFiles]] = {}

    async def find(self, model: LocalModel) -> ModelFiles:
        task = self._running.get(model)
        if task is None:
            task = self._running[model] = asyncio.create_task(asyncio.to_thread(model_files.find, model))
            task.add_done_callback(lambda _task: self._running.pop(model))
        return await asyncio.shield(task)


class _Worker:
    """Does batch after batch, as long as the process lives."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._queue = queue
        self._models: LoadedModels | None = None

    def run(self) -> None:
        while True:
            works = self._queue.take()
            try:
                self._do(works)
            except PaddockError as error:
                _fail_all(works, error)
            except Exception as error:
                log.exception("A batch failed.")
                reason = f"The engine for local models met an unexpected error ({type(error).__name__})."
                _fail_all(works, BackendError(f"{reason} Its log has the details."))

    def _do(self, works: list[Work]) -> None:
        """Answer `works`. Those that join them meanwhile are put in the list, in place of those that are done."""
        models = self._models = self._models or _load_libraries(self._settings)
        first = works[0]
        model_id, files = first.request.model.model_id, first.files
        if isinstance(first.request, LikelihoodRequest):
            models.language_model(model_id, files).tell_likelihoods(works)
            return
        if isinstance(first.request, RerankRequest):
            reranker = models.reranker(model_id, files, first.request.model.precision)
            rank(
                reranker,
                works,
                join=lambda: self._queue.take_more(first, _MAX_RANKINGS - len(works)),
                others_wait=lambda: self._queue.has_other(first),
            )
            for unfinished in works:
                self._queue.submit(unfinished)
            return

        def more(limit: int) -> list[Work]:
            joining = self._queue.take_more(first, limit)
            if joining:
                works[:] = [work for work in works if not work.answer.done()] + joining
            return joining

        models.language_model(model_id, files).generate(works, more, max_rows=self._settings.max_batch_size)


def _load_libraries(settings: Settings) -> LoadedModels:
    """Import torch and the rest, which takes seconds."""
    try:
        import torch

        from paddock.inference.local_models.loading import LoadedModels
    except ImportError as error:
        log.exception("The libraries for local models are not installed.")
        raise BackendError(
            "This server has no local models: it was installed without `paddock[models]` and torch."
        ) from error
    torch.set_num_threads(settings.num_threads)
    return LoadedModels(settings)


def _fail_all(works: list[Work], error: PaddockError) -> None:
    """Those that were answered already stay so."""
    for work in works:
        work.fail(error)
