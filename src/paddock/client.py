"""A small synchronous client of a Paddock server, for our own command line and the quickstart.

It speaks HTTP and JSON and turns whatever goes wrong into one exception. What the answers mean, and how they look on
a screen, is its callers' business. It repeats nothing but the polling of a job.
"""

from __future__ import annotations

import ipaddress
import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from paddock.errors import FieldError

DEFAULT_URL = "http://127.0.0.1:8321"

FINAL_STATUSES = ("completed", "failed", "cancelled")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 600.0  # the first rerank with a model waits until it is loaded
_PAGE_ROWS = 1000
_CHUNK_BYTES = 8 * 1024 * 1024  # far below the server's `max_body_bytes`
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0  # a server that is being restarted comes back with the job


class ClientError(Exception):
    """A request that was not done: the server's `Error`, or no answer at all, and then `status` is None."""

    def __init__(self, detail: str, *, status: int | None = None, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.errors = errors


@dataclass(frozen=True)
class JobUpdate:
    """One look at a job: its record, and the points of its metrics that are new since the last look."""

    job: dict[str, Any]
    points: list[dict[str, Any]]


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    url: str | None = None


class Client:
    """A connection to one server. Every method raises `ClientError`."""

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            # A proxy of the environment leads out of this machine, never to a server on it.
            trust_env=not _is_loopback(self.url),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # ------------------------------------------------------------------------------------------------ requests

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET; query parameters that are None are left out."""
        return self._parse(self.get_bytes(path, **query))

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """The answer to a GET as it came."""
        return self._send("GET", path, query={name: value for name, value in query.items() if value is not None})

    def download(self, path: str, file: Path) -> int:
        """Write an answer of any length to a file, whole or not at all. Returns its size in bytes."""
        part = file.with_name(f"{file.name}.part")
        num_bytes = 0
        try:
            with self._http.stream("GET", self.url + path) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(self.url, response)
                with part.open("wb") as out:
                    for piece in response.iter_bytes():
                        num_bytes += out.write(piece)
            part.replace(file)
        except httpx.HTTPError as error:
            raise ClientError(_no_answer(self.url, error)) from error
        finally:
            part.unlink(missing_ok=True)
        return num_bytes

    def post(self, path: str, body: Any, *, idempotency_key: str | None = None) -> Any:
        """The JSON answer to a POST of a JSON body."""
        return self.post_bytes(path, json.dumps(body).encode(), idempotency_key=idempotency_key)

    def post_bytes(self, path: str, content: bytes, *, idempotency_key: str | None = None) -> Any:
        """The JSON answer to a POST of a body that is JSON already."""
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self._parse(self._send("POST", path, headers=headers, content=content))

    def delete(self, path: str) -> Any:
        """The JSON answer to a DELETE."""
        return self._parse(self._send("DELETE", path))

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> bytes:
        try:
            response = self._http.request(
                method, self.url + path, params=query or None, headers=headers, content=content
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(_no_answer(self.url, error)) from error
        if response.is_success:
            return response.content
        raise _refusal(self.url, response)

    def _parse(self, content: bytes) -> Any:
        try:
            return json.loads(content, parse_int=_integer, parse_float=_real)
        except ValueError as error:
            raise ClientError(f"The answer of {self.url} is not JSON that can be read: {error}.") from None

    # ------------------------------------------------------------------------------------------------ datasets

    def rows(self, dataset_id: str, *, start: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """A dataset's rows as the JSON texts that the server holds, page by page in bounded memory."""
        page_rows = _PAGE_ROWS if limit is None else min(limit, _PAGE_ROWS)
        url: str | None = f"/v1beta/datasetio/iterrows/{quoted(dataset_id)}?start_index={start}&limit={page_rows}"
        left = limit
        while url is not None and left != 0:
            try:
                page = msgspec.json.decode(self.get_bytes(url), type=_Page)
            except msgspec.DecodeError as error:
                raise ClientError(f"A page of rows of {self.url} cannot be read: {error}.") from None
            for row in page.data[:left]:
                yield bytes(row)
            left = None if left is None else max(0, left - len(page.data))
            url = page.url

    def append_rows(self, dataset_id: str, rows: Iterable[bytes]) -> Iterator[int]:
        """Append rows (each the text of a JSON object) in chunks; yields how many are durable after each chunk."""
        num_rows = 0
        for chunk in chunks(rows):
            self.post_bytes(
                f"/v1beta/datasetio/append-rows/{quoted(dataset_id)}",
                b'{"rows":' + json_array(chunk) + b"}",
                idempotency_key=uuid.uuid4().hex,
            )
            num_rows += len(chunk)
            yield num_rows

    # ------------------------------------------------------------------------------------------------ evaluation

    def run_eval(self, benchmark_id: str, benchmark_config: dict[str, Any]) -> str:
        """Start an evaluation; returns the job's id."""
        path = f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}/jobs"
        job_id: str = self.post(path, benchmark_config, idempotency_key=uuid.uuid4().hex)["job_id"]
        return job_id

    def evaluate_rows(
        self, benchmark_id: str, rows: list[bytes], scoring_functions: list[str], benchmark_config: dict[str, Any]
    ) -> Any:
        """Evaluate rows (each the text of a JSON object) at once; returns the `EvaluateResponse`."""
        rest = json.dumps({"scoring_functions": scoring_functions, "benchmark_config": benchmark_config}).encode()
        return self.post_bytes(
            f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}/evaluations",
            b'{"input_rows":' + json_array(rows) + b"," + rest[1:],
            idempotency_key=uuid.uuid4().hex,
        )

    # ------------------------------------------------------------------------------------------------ models

    def chat(self, body: dict[str, Any]) -> Iterator[str]:
        """The text of an answer, in pieces as it is made; `body` is that of a chat completion. Closing the iterator
        takes the request back."""
        content = json.dumps(body | {"stream": True}).encode()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        url = f"{self.url}/v1/chat/completions"
        try:
            with self._http.stream("POST", url, headers=headers, content=content) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(self.url, response)
                for line in response.iter_lines():
                    if line == "data: [DONE]":
                        return
                    if line.startswith("data: "):
                        yield _piece(self._parse(line.removeprefix("data: ").encode()))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(_no_answer(self.url, error)) from error
        raise ClientError(f"The answer of {self.url} ended before its end.")

    # ------------------------------------------------------------------------------------------------ jobs

    def jobs(
        self, *, kind: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Jobs of every kind, the newest first, page by page."""
        before: int | None = None
        left = limit
        while left != 0:
            page_jobs = 100 if left is None else min(left, 100)
            page = self.get("/v1alpha/jobs", kind=kind, status=status, before=before, limit=page_jobs)
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            before = page["next_before"]
            if before is None:
                return

    def follow(self, job_id: str) -> Iterator[JobUpdate]:
        """Look at a job twice a second until it has ended; the last update is the final one.

        A server that does not answer for a while, for it is being restarted, is waited for."""
        path = f"/v1alpha/jobs/{quoted(job_id)}"
        last_step = -1
        while True:
            # The record first: the points that are read after a final record are all there will be.
            job = self._poll(path)
            points = self._poll(f"{path}/metrics", after=last_step)["data"]
            if points:
                last_step = points[-1]["step"]
            yield JobUpdate(job, points)
            if job["status"] in FINAL_STATUSES:
                return
            time.sleep(_POLL_SECONDS)

    def events(self, job_id: str, *, after: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """What happened to a job, in order; with `follow`, as it happens, until the job has ended."""
        path = f"/v1alpha/jobs/{quoted(job_id)}/events"
        if not follow:
            yield from self.get(path, after=after)["data"]
            return
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                with self._http.stream("GET", self.url + path, headers=headers) as response:
                    if not response.is_success:
                        response.read()
                        raise _refusal(self.url, response)
                    for line in response.iter_lines():
                        if line.startswith("data: "):
                            event = self._parse(line.removeprefix("data: ").encode())
                            after = event["event_id"]
                            yield event
                        give_up_at = time.monotonic() + _PATIENCE_SECONDS
            except httpx.HTTPError as error:
                if time.monotonic() > give_up_at:
                    raise ClientError(_no_answer(self.url, error)) from error
            else:
                # The stream ends with the job, or with a server that is being restarted.
                if self._poll(f"/v1alpha/jobs/{quoted(job_id)}")["status"] in FINAL_STATUSES:
                    yield from self.get(path, after=after)["data"]
                    return
            time.sleep(_POLL_SECONDS)

    def log(self, job_id: str, *, attempt: int | None = None, follow: bool = False) -> Iterator[bytes]:
        """What a job's process printed, in pieces; with `follow`, until the job has ended."""
        path = f"/v1alpha/jobs/{quoted(job_id)}"
        shown, offset = attempt, 0
        while True:
            job = self._poll(path)
            if attempt is None and job["attempt"] != shown:
                shown, offset = job["attempt"], 0
            while piece := self.get_bytes(f"{path}/logs", attempt=shown, offset=offset):
                offset += len(piece)
                yield piece
            if not follow or job["status"] in FINAL_STATUSES:
                return
            time.sleep(_POLL_SECONDS)

    def _poll(self, path: str, **query: Any) -> Any:
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self.get(path, **query)
            except ClientError as error:
                if error.status is not None or time.monotonic() > give_up_at:
                    raise
            time.sleep(_POLL_SECONDS)


def quoted(identifier: str) -> str:
    """An id as it stands in a path, its slashes too."""
    return quote(identifier, safe="")


def json_array(texts: Iterable[bytes]) -> bytes:
    """A JSON array of texts that are JSON already: a row's digits pass through no float on their way."""
    return b"[" + b",".join(texts) + b"]"


def chunks(rows: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Rows in groups that one request takes: 1,000 at most, and some megabytes unless a single row is larger."""
    chunk: list[bytes] = []
    num_bytes = 0
    for row in rows:
        if chunk and (len(chunk) == _PAGE_ROWS or num_bytes + len(row) > _CHUNK_BYTES):
            yield chunk
            chunk, num_bytes = [], 0
        chunk.append(row)
        num_bytes += len(row)
    if chunk:
        yield chunk


def _piece(event: dict[str, Any]) -> str:
    """The text that an event of a stream adds to an answer. Raises the error that it holds instead."""
    if "error" in event:
        raise ClientError(event["error"]["message"], status=event["error"]["code"])
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def _integer(digits: str) -> int | str:
    """A number of a row may be any that JSON can write; one that Python does not read stays text."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _real(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_answer(url: str, error: Exception) -> str:
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"{url!r} is not the address of a server; write it as {DEFAULT_URL}."
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"No server answers at {url}. Start one with `paddock serve`, or name another with --url or PADDOCK_URL."
    if isinstance(error, httpx.TimeoutException):
        return f"The server at {url} did not answer within {_ANSWER_SECONDS:.0f} seconds."
    return f"The connection to {url} broke off ({type(error).__name__})."


def _refusal(url: str, response: httpx.Response) -> ClientError:
    """The server's `Error` as an exception, or, where something else answered, what it was."""
    try:
        content = json.loads(response.content)
        errors = tuple(FieldError(e["pointer"], e["message"]) for e in content.get("errors", ()))
        return ClientError(str(content["detail"]), status=response.status_code, errors=errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ClientError(
            f"{url} answered {response.status_code}, but not as a Paddock server does. Is the address right?",
            status=response.status_code,
        )
