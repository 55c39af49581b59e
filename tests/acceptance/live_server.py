"""A real `paddock serve` as a child process: started, killed, started again on the same data directory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from contract import watch

_STARTED = re.compile(r"Paddock serves (http://\S+) from")
START_SECONDS = 30.0


class LiveServer:
    """`with LiveServer(tmp_path, settings…) as server:`; `server.http` is a client on it. `inside` is a command that
    becomes the one that follows it, as `nice` does."""

    def __init__(self, folder: Path, *, inside: Sequence[str] = (), **settings: Any) -> None:
        self.data_dir = folder / "data"
        self._inside = inside
        self._config = folder / "paddock.yaml"
        self._config.write_text(yaml.safe_dump(settings))
        self._log_file = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.http = httpx.Client()

    def __enter__(self) -> LiveServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def processes_of_job(self, job_id: str | None = None) -> Iterator[psutil.Process]:
        """Living processes of the job's attempts here, or of any job's. Their command lines do not tell: a process that was
        started ahead of its job bears no job's id. The log does, a moment after the process has begun."""
        job = r"\S+" if job_id is None else re.escape(job_id)
        for pid in set(re.findall(rf"Job {job} \(\w+\) runs as process (\d+)", self.log)):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(pid))
                is_job = {"run-job", "fork-jobs"} & set(process.cmdline())  # and no later process of that number
                if is_job and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def start(
        self, before_exec: Callable[[], None] | None = None, *, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Start the server and wait for its health. Its own log says where it listens. Where it may be killed or stopped
        on the way, `meanwhile` is called now and then, and an early end is no error."""
        offset = self._log_file.stat().st_size if self._log_file.exists() else 0
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._inside,
                    *(sys.executable, "-P", "-m", "paddock", "serve"),
                    *("--config", str(self._config), "--data-dir", str(self.data_dir), "--port", "0"),
                ],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509  # tests have no threads that hold locks
            )
        deadline = time.monotonic() + START_SECONDS
        while (found := _STARTED.search(self.log[offset:])) is None:
            if self._looks_dead(meanwhile):
                return
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        self.url = found.group(1)
        watch.follow(self.url)
        self.http.close()
        self.http = httpx.Client(base_url=self.url, timeout=60)
        while not self._looks_dead(meanwhile):
            try:
                assert self.http.get("/v1/health", timeout=5).json() == {"status": "OK"}
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)

    def _looks_dead(self, meanwhile: Callable[[], None] | None) -> bool:
        if meanwhile is not None:
            meanwhile()
        assert meanwhile is not None or not self.has_ended, self.log
        return self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the server's process is gone."""
        return self.exit_code is not None

    @property
    def exit_code(self) -> int | None:
        """None while the process lives."""
        assert self._process is not None
        return self._process.poll()

    def wait(self) -> None:
        """Wait for its end, which somebody has brought about."""
        assert self._process is not None
        self._process.wait(30)

    def kill(self) -> None:
        """`kill -9` of its process group, at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        watch.forget(self.url)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End politely, as by `kill` or Ctrl-C; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        exit_code = self._process.wait(60)
        watch.forget(self.url)
        return exit_code

    def paddock(self, *words: str) -> str:
        """What a command prints."""
        command_line = [sys.executable, "-m", "paddock", *words]
        done = subprocess.run(command_line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """The JSON of an answer that must be 200."""
        response = self.http.request(method, path, json=body, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def wait_for_job(self, job_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """The job once it has ended."""
        return self.wait_until(job_id, lambda job: job["status"] in ("completed", "failed", "cancelled"), seconds)

    def wait_until(self, job_id: str, condition: Any, seconds: float = 120) -> dict[str, Any]:
        """The job as soon as `condition(job)` holds."""
        deadline = time.monotonic() + seconds
        while True:
            job: dict[str, Any] = self.call("GET", f"/v1alpha/jobs/{job_id}")
            if condition(job):
                return job
            assert time.monotonic() < deadline, (job, self.log)
            time.sleep(0.05)
