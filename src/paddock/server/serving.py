"""The life of one server process: lock, resources, worker, engine, HTTP; and the way back in the opposite order."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from paddock import wiring
from paddock.errors import InvalidRequestError
from paddock.inference.engine_host import EngineHost
from paddock.jobs import retention
from paddock.jobs.worker import Worker
from paddock.server import configured
from paddock.server.app import create_app
from paddock.server.connections import Connections
from paddock.settings import Settings, is_loopback
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.server")

_DRAIN_SECONDS = 5

_SWITCH_SECONDS = 0.0002
"""How long a thread that works may keep the interpreter from the event loop, which has to ask for it several times a
request. With Python's own 5 ms, one large body being parsed makes every small answer 50 ms late."""

_RESERVED_FILES = 160
"""Open files that are kept for all but connections: the database, logs, jobs, the engine."""


def serve_forever(settings: Settings, *, replace: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Running jobs are handed back for the next start, no process is left behind."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    _check_host(settings)
    data_dir = DataDir(settings.data_dir, settings.checkpoint_root)
    try:
        data_dir.create()
        data_dir.lock()
    except OSError as error:
        raise InvalidRequestError(
            f"The data directory {data_dir.root} cannot be written to: {error.filename}: {error.strerror}. Make it writable "
            "for this user, or name another with --data-dir."
        ) from None
    listener = _listen(settings)
    resources = wiring.build(settings)
    resources.datasets.sweep_abandoned()
    configured.register(resources, replace=replace)
    worker = Worker(settings, data_dir, resources.jobs)
    engine_host = EngineHost(settings, data_dir)
    app = create_app(
        resources,
        wake_worker=worker.wake,
        engine_pid=lambda: engine_host.pid,
        is_ending=lambda: server.should_exit,
    )
    server = uvicorn.Server(_uvicorn_config(app, settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes the signals over while it runs, and raises them again behind itself: the way out is ours.
        signal.signal(number, lambda _number, _frame: setattr(server, "should_exit", True))
    host, port = listener.getsockname()[:2]
    engine_host.start()
    worker.start()
    stop_pruning = retention.keep_pruning(resources.jobs, data_dir, settings)
    log.info("Paddock serves http://%s:%d from %s.", f"[{host}]" if ":" in host else host, port, data_dir.root)
    try:
        server.run(sockets=[listener])
    finally:
        log.info("Ending: running jobs leave their work resumable.")
        stop_pruning()
        worker.stop()
        engine_host.stop()
        resources.database.close()
        data_dir.unlock()


def _uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    connections = Connections(settings, _max_connections(settings))
    return uvicorn.Config(
        app,
        http=connections.protocol,  # type: ignore[arg-type]  # a factory does as well as a class
        ws="none",
        callback_notify=connections.sweep,
        timeout_notify=1,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        # Whoever connects from this machine may write X-Forwarded-For; uvicorn would believe it.
        proxy_headers=False,
        server_header=False,
        # Warnings are about what clients do.
        log_level="error",
        log_config=None,  # its lines look like ours
        access_log=False,
        lifespan="on",
    )


def _max_connections(settings: Settings) -> int:
    """`max_connections`, or what this process's limit of open files leaves. The limit is raised where it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + _RESERVED_FILES
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        log.warning("The limit of %d open files allows fewer connections than `max_connections`.", soft)
    return min(settings.max_connections, max(1, soft - _RESERVED_FILES))


def _check_host(settings: Settings) -> None:
    if is_loopback(settings.host):
        return
    if settings.allow_anyone:
        log.warning("Whoever reaches %s may use this server (`allow_anyone`).", settings.host)
    elif settings.is_open:
        raise InvalidRequestError(
            f"Without keys Paddock listens on loopback only, not on {settings.host}: whoever reached it could use it. "
            "Make a key with `paddock keys new`, or let anyone in with --allow-anyone."
        )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InvalidRequestError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Choose another --port, or 0 for a free one."
        ) from None
    listener.listen(2048)
    return listener
