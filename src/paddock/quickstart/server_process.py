"""The quickstart's server: `paddock serve` as a child on a free port, which ends before this process goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paddock.client import Client, ClientError
from paddock.errors import PaddockError

_START_SECONDS = 60.0
_END_SECONDS = 20.0
_ADDRESS = re.compile(r"Paddock serves (http://\S+) from")
_SETTINGS_OF_THE_MACHINE = ("PADDOCK_NUM_THREADS", "PADDOCK_DEVICE")


class ServerStartError(PaddockError):
    """The server did not come up; the message has its last words."""


class ServerProcess:
    """`with ServerProcess(data_dir, setting=…) as server:` runs a server there; `server.url` is its address."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self.log_file = data_dir / "server.log"
        self.url = ""

    def __enter__(self) -> ServerProcess:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "paddock", "serve", "--data-dir", str(self._data_dir), "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self._settings),
                # A session of its own: Ctrl-C reaches this process alone, which then ends its child in order.
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(log_start)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _wait_until_it_answers(self, log_start: int) -> None:
        give_up_at = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up_at and self._process.poll() is None:
            found = _ADDRESS.search(self._log(log_start))
            if found is not None and _answers(found.group(1)):
                self.url = found.group(1)
                return
            time.sleep(0.05)
        why = "ended at once" if self._process.poll() is not None else f"did not answer in {_START_SECONDS:.0f} s"
        last_words = "\n".join(self._log(log_start).splitlines()[-8:])
        raise ServerStartError(f"The server {why}. The end of its log, {self.log_file}:\n{last_words}")

    def _log(self, start: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _end(self) -> None:
        """Ask the server to end; it ends its own children. One that does not is killed, and its children follow it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def _answers(url: str) -> bool:
    with Client(url) as client:
        try:
            return bool(client.get("/v1/health")["status"] == "OK")
        except ClientError:
            return False


def _environment(settings: dict[str, Any]) -> dict[str, str]:
    """This process's environment without the settings of the user's own server, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PADDOCK_") or name in _SETTINGS_OF_THE_MACHINE
    }
    return kept | {f"PADDOCK_{name.upper()}": json.dumps(value) for name, value in settings.items()}
