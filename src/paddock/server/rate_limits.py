"""How often each client may ask: a fixed window of a minute, counted in this process's memory or in Redis.

The counting is the library `limits`'. The answers carry the fields of the IETF's draft on rate limits
(draft-ietf-httpapi-ratelimit-headers). A Redis that is down lets nobody wait: this process counts by itself meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.errors import ConfigurationError, StorageError

from paddock.errors import InvalidRequestError, TooManyRequestsError
from paddock.settings import RateLimit

log = logging.getLogger("paddock.server")

_WINDOW_SECONDS = 60
_REDIS_SECONDS = 1.0
_REDIS_PAUSE_SECONDS = 10.0
"""How long a Redis that failed is not asked again."""


class RateLimits:
    """The limit of one server."""

    def __init__(self, config: RateLimit) -> None:
        self._limit = RateLimitItemPerMinute(config.requests_per_minute, namespace="paddock")
        self._memory = MemoryStorage()
        self._redis = None if config.redis_url is None else _open_redis(config.redis_url)
        self._redis_rests_until = 0.0
        self._policy = f'"default";q={config.requests_per_minute};w={_WINDOW_SECONDS}'

    async def spend(self, client: str, headers: dict[str, str]) -> None:
        """Count a request of `client`; what is left is added to its answer's `headers`.

        Raises `TooManyRequestsError` if nothing was left."""
        num_spent, seconds = await self._count(hashlib.sha256(client.encode()).hexdigest())
        left = max(0, self._limit.amount - num_spent)
        headers["RateLimit-Policy"] = self._policy
        headers["RateLimit"] = f'"default";r={left};t={seconds}'
        if num_spent > self._limit.amount:
            raise TooManyRequestsError(
                f"More than {self._limit.amount} requests in a minute (`rate_limit`).",
                limit="rate_limit",
                retry_after_seconds=max(1, seconds),
            )

    async def close(self) -> None:
        """Hang up on Redis."""
        if self._redis is not None:
            bridge: Any = self._redis.bridge
            await bridge.storage.aclose()

    async def _count(self, key: str) -> tuple[int, int]:
        """The requests of this client in its window, this one too, and the seconds until the next window."""
        if self._redis is not None and time.monotonic() >= self._redis_rests_until:
            try:
                return await self._count_in(self._redis, key)
            except (StorageError, OSError) as error:
                self._redis_rests_until = time.monotonic() + _REDIS_PAUSE_SECONDS
                log.error(
                    "Redis cannot be asked for rate limits (%s): this server counts by itself for %.0f s.",
                    type(error.__cause__ or error).__name__,
                    _REDIS_PAUSE_SECONDS,
                )
        return await self._count_in(self._memory, key)

    async def _count_in(self, storage: Storage, key: str) -> tuple[int, int]:
        name = self._limit.key_for(key)
        num_spent = await storage.incr(name, _WINDOW_SECONDS)
        return num_spent, max(0, math.ceil(await storage.get_expiry(name) - time.time()))


def _open_redis(url: str) -> RedisStorage:
    try:
        return RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
        )
    except ConfigurationError:
        raise InvalidRequestError("`rate_limit.redis_url` needs a library: pip install 'paddock[redis]'") from None
