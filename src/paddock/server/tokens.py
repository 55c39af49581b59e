"""Tokens of an OpenID Connect provider: signed by a key that it publishes, for this server, not expired, with a role.

Loaded only where `jwt` is configured (extra `oidc`). Only asymmetric algorithms are taken: with a shared secret, whoever
can check a token could make one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from paddock.errors import ForbiddenError, InvalidRequestError, PaddockError, UnauthorizedError
from paddock.server.callers import Caller
from paddock.settings import JwtConfig

try:
    import jwt
except ImportError:
    raise InvalidRequestError("The setting `jwt` needs PyJWT: pip install 'paddock[oidc]'") from None

log = logging.getLogger("paddock.server")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

_LEEWAY_SECONDS = 10
_REQUIRED_CLAIMS = ("exp", "iss", "aud", "sub")
_MAX_SUBJECT_CHARACTERS = 255  # as OpenID Connect has it
_KEYS_KEPT_SECONDS = 300
_MIN_SECONDS_BETWEEN_READS = 5
"""Tokens that name keys nobody knows cannot make this server ask its provider all the time."""
_FETCH_SECONDS = 5


class KeysUnreadableError(PaddockError):
    """The provider's keys cannot be had, so no token can be checked."""

    status = 502
    title = "Bad Gateway"


class Tokens:
    """The tokens of one provider."""

    def __init__(self, config: JwtConfig) -> None:
        self._config = config
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def verify(self, token: str) -> Caller:
        """The caller whom a token names. Raises `UnauthorizedError`, and `ForbiddenError` if it gives no role."""
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"))
            if header.get("alg") not in ALGORITHMS or key is None:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(_REQUIRED_CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("This token has expired.") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _refused("This token is not one that this server takes.") from None
        subject: str = claims["sub"]
        if not (subject.isprintable() and 1 <= len(subject) <= _MAX_SUBJECT_CHARACTERS):
            raise _refused("This token's subject is not a name.")
        name = f"jwt:{subject}"
        roles = _words(claims.get(self._config.role_claim))
        if self._config.write_role in roles:
            return Caller(name, "write")
        if self._config.read_role in roles:
            return Caller(name, "read")
        raise ForbiddenError(f"This token's `{self._config.role_claim}` holds no role of this server.")

    async def _key(self, key_id: str | None) -> jwt.PyJWK | None:
        if self._should_read(key_id):
            async with self._reading:
                if self._should_read(key_id):  # nobody did while this one waited
                    await self._read()
        if not self._keys:
            raise KeysUnreadableError("The keys of the token provider cannot be read, so no token can be checked.")
        return self._keys.get(key_id)

    def _should_read(self, key_id: str | None) -> bool:
        age = time.monotonic() - self._read_at
        return age > (_KEYS_KEPT_SECONDS if key_id in self._keys else _MIN_SECONDS_BETWEEN_READS)

    async def _read(self) -> None:
        try:
            found = await asyncio.to_thread(self._fetch)
        except (jwt.PyJWTError, OSError, ValueError) as error:
            # The keys that are known stay good: a provider that is down locks nobody out.
            log.error("The keys of the token provider cannot be read (%s).", type(error).__name__)
            return
        finally:
            self._read_at = time.monotonic()
        self._keys = {key.key_id: key for key in found.keys if key.public_key_use in (None, "sig")}

    def _fetch(self) -> jwt.PyJWKSet:
        if self._config.jwks_file is not None:
            return jwt.PyJWKSet.from_dict(json.loads(self._config.jwks_file.read_bytes()))
        assert self._config.jwks_url is not None
        return jwt.PyJWKClient(self._config.jwks_url, cache_jwk_set=False, timeout=_FETCH_SECONDS).get_jwk_set()


def _words(claim: Any) -> list[str]:
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _refused(detail: str) -> UnauthorizedError:
    return UnauthorizedError(detail, challenge='Bearer error="invalid_token"')
