"""The life of one server process: lock, resources, worker, engine, HTTP; and the way back in the opposite order."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket

import uvicorn

from paddock import wiring
from paddock.errors import InvalidRequestError
from paddock.inference.engine_host import EngineHost
from paddock.jobs import retention
from paddock.jobs.worker import Worker
from paddock.server import configured
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

log = logging.getLogger("paddock.server")

_DRAIN_SECONDS = 5


def serve_forever(settings: Settings, *, replace: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Running jobs are handed back for the next start, no process is left behind."""
    _check_host(settings.host)
    data_dir = DataDir(settings.data_dir, settings.checkpoint_root)
    data_dir.create()
    data_dir.lock()
    listener = _listen(settings)
    resources = wiring.build(settings)
    resources.datasets.sweep_abandoned()
    configured.register(resources, replace=replace)
    worker = Worker(settings, data_dir, resources.jobs)
    engine_host = EngineHost(settings, data_dir)
    app = create_app(resources, wake_worker=worker.wake, is_ending=lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            server_header=False,
        )
    )
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


def _check_host(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidRequestError(
            f"Paddock listens on loopback only, not on {host}: it has no keys yet, so whoever reached it could use it. "
            "Put a proxy that checks who asks in front of it."
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
