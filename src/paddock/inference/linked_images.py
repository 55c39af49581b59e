"""Images that a conversation names by http(s) URL, for models on this machine: fetched through the one guarded way out, and
handed on as `data:` URLs. What is in them is for the engine process to read.

An image that many conversations show, as a candidate's system message does, is fetched once in a while, not for each.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import OrderedDict
from dataclasses import dataclass

from paddock.egress import Egress, EgressError, Limits
from paddock.errors import InvalidRequestError

_LIMITS = Limits(max_bytes=10 * 1024 * 1024, seconds=30)

_MAX_KEPT = 8
_KEPT_SECONDS = 60.0


@dataclass(frozen=True)
class _Fetch:
    task: asyncio.Task[str]
    began_at: float


class LinkedImages:
    """Fetches images for one event loop."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._kept: OrderedDict[str, _Fetch] = OrderedDict()

    def check(self, url: str) -> None:
        """Raise `InvalidRequestError` if it is known now, without asking anybody, that the URL will not be fetched."""
        if not url.startswith(("http://", "https://")):
            raise InvalidRequestError("It is neither base64 data (`data:image/png;base64,…`) nor an http(s) URL.")
        if not self._egress.has_hosts:
            raise InvalidRequestError(
                "A local model is shown images as base64 data (`data:image/png;base64,…`): there is no host that this "
                "server may fetch them from (`dataset_hosts`)."
            )

    async def data_url(self, url: str) -> str:
        """The image behind `url` as a `data:` URL. Raises `InvalidRequestError`, as `egress` says it."""
        self.check(url)
        fetch = self._kept.get(url)
        is_old = fetch is not None and (time.monotonic() - fetch.began_at > _KEPT_SECONDS or fetch.task.cancelled())
        if fetch is None or is_old or fetch.task.get_loop() is not asyncio.get_running_loop():
            fetch = _Fetch(asyncio.create_task(self._fetch(url)), time.monotonic())
            self._kept[url] = fetch
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(url)
        # Shielded: who leaves takes nothing away from those that wait for the same image.
        return await asyncio.shield(fetch.task)

    async def _fetch(self, url: str) -> str:
        content = bytearray()
        try:
            await self._egress.fetch(url, content.extend, _LIMITS)
        except EgressError as error:
            self._kept.pop(url, None)
            raise InvalidRequestError(error.detail) from None
        return f"data:image;base64,{base64.b64encode(content).decode()}"
