"""Who asks, and what they may do: bearer keys and tokens, each with a role.

Keys are known by their hashes alone and compared in constant time. Neither a key nor a token is ever logged.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from paddock.errors import ForbiddenError, UnauthorizedError
from paddock.settings import Role, Settings, sha256_of_key

if TYPE_CHECKING:
    from paddock.server.tokens import Tokens

OPEN_PATHS = frozenset({"/v1/health", "/v1alpha/admin/health"})
"""What answers whoever asks, however often."""

_READING_METHODS = frozenset({"GET", "HEAD"})


_IPV6_CLIENT_BITS = 64
"""One client of the internet holds a whole /64."""


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of a key or the subject of a token, and the role."""

    name: str
    role: Role

    def check_role(self, method: str) -> None:
        """Raise `ForbiddenError` if this caller may not use `method`."""
        if self.role != "write" and method not in _READING_METHODS:
            raise ForbiddenError(f"This needs the role `write`; {self.name} has the role `{self.role}`.")


ANYONE = Caller("", "write")
"""The caller of a server that knows no keys."""


class Callers:
    """The keys and tokens that one server takes."""

    def __init__(self, settings: Settings) -> None:
        self._is_open = settings.is_open
        self._keys = settings.api_keys
        self._tokens: Tokens | None = None
        if settings.jwt is not None:
            from paddock.server.tokens import Tokens

            self._tokens = Tokens(settings.jwt)

    async def identify(self, headers: Headers) -> Caller:
        """The caller by the `Authorization` header. Raises `UnauthorizedError`."""
        if self._is_open:
            return ANYONE
        sent = headers.getlist("authorization")
        if not sent:
            raise UnauthorizedError("Send a key: the header `Authorization: Bearer KEY`.")
        scheme, _, credentials = sent[0].partition(" ")
        if len(sent) > 1 or scheme.lower() != "bearer" or not credentials.strip():
            raise _wrong("The Authorization header must be one `Bearer KEY`.")
        credentials = credentials.strip()
        caller = self._by_key(credentials)
        if caller is None and self._tokens is not None and credentials.count(".") == 2:
            caller = await self._tokens.verify(credentials)
        if caller is None:
            raise _wrong("This key is not one of this server's.")
        return caller

    def _by_key(self, key: str) -> Caller | None:
        digest = sha256_of_key(key)
        found = None
        for known in self._keys:  # all of them, so that the time says nothing about which one it was
            if hmac.compare_digest(known.key_sha256, digest):
                found = Caller(f"key:{known.name}", known.role)
        return found


def address_of(client: Any) -> str:
    """What stands for a client that has no name, from the ASGI scope's `client`. Forwarded addresses are not believed."""
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address:{host}"
    if address.version == 6:
        return f"address:{ipaddress.ip_network((address, _IPV6_CLIENT_BITS), strict=False)}"
    return f"address:{address}"


def _wrong(detail: str) -> UnauthorizedError:
    return UnauthorizedError(detail, challenge='Bearer error="invalid_token"')
