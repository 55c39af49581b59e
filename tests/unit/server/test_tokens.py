"""Tokens of an OpenID Connect provider: which are taken, and that its keys may change."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from paddock.errors import ForbiddenError, UnauthorizedError
from paddock.server import tokens
from paddock.server.callers import Caller
from paddock.server.tokens import KeysUnreadableError, Tokens
from paddock.settings import JwtConfig

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, key_id: str) -> dict[str, Any]:
    algorithm = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((a for k, a in algorithm.items() if isinstance(key, k)), OKPAlgorithm)
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    full = {
        "iss": "https://login.example.org/",
        "aud": "paddock",
        "sub": "alice",
        "exp": now + 300,
        "nbf": now - 5,
        "scope": "openid paddock:write",
    } | changes
    return {name: value for name, value in full.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=None if kid is None else {"kid": kid})


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(
        json.dumps({"keys": [jwk(RSA, "rsa"), jwk(RSA, "ps") | {"alg": "PS256"}, jwk(EC, "ec"), jwk(ED, "ed")]})
    )
    return path


@pytest.fixture
def config(jwks_file: Path) -> JwtConfig:
    return JwtConfig(issuer="https://login.example.org/", audience="paddock", jwks_file=jwks_file)


def verify(config: JwtConfig, text: str) -> Caller:
    return asyncio.run(Tokens(config).verify(text))


def test_a_token_names_its_caller_and_role(config: JwtConfig) -> None:
    assert verify(config, token()) == Caller("jwt:alice", "write")
    assert verify(config, token(scope="paddock:read")) == Caller("jwt:alice", "read")
    assert verify(config, token(scope=["paddock:read", 7])) == Caller("jwt:alice", "read")
    assert verify(config, token(nbf=None)).role == "write"
    assert verify(config, token(aud=["other", "paddock"])).role == "write"
    for algorithm, key, kid in (("PS256", RSA, "ps"), ("ES256", EC, "ec"), ("EdDSA", ED, "ed")):
        assert verify(config, token(key, algorithm, kid)).name == "jwt:alice"


@pytest.mark.parametrize("scope", [None, "", "openid", "paddock:writer", {"paddock:write": True}, 7])
def test_a_token_without_a_role_is_403(config: JwtConfig, scope: Any) -> None:
    with pytest.raises(ForbiddenError, match="`scope`"):
        verify(config, token(scope=scope))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": int(time.time()) + 3600},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example/"},
        {"iss": "https://login.example.org"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "x" * 300},
    ],
)
def test_claims_that_are_not_right_are_401(config: JwtConfig, changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        verify(config, token(**changes))
    assert "invalid_token" in caught.value.challenge
    assert ("expired" in caught.value.detail) == ("exp" in changes and isinstance(changes["exp"], int))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _forged(header: dict[str, Any], key: bytes | None) -> str:
    signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims()).encode())}"
    signature = b"" if key is None else hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_b64(signature)}"


def test_forged_signatures_are_401(config: JwtConfig) -> None:
    public_pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_jwk = json.dumps(jwk(RSA, "rsa")).encode()
    head, body, signature = token().split(".")
    forgeries = [
        _forged({"alg": "none", "kid": "rsa"}, None),
        _forged({"alg": "None", "kid": "rsa"}, None),
        _forged({"kid": "rsa"}, None),
        # The public key as a shared secret.
        _forged({"alg": "HS256", "kid": "rsa"}, public_pem),
        _forged({"alg": "HS256", "kid": "rsa"}, public_jwk),
        _forged({"alg": "RS256", "kid": "rsa"}, public_pem),
        _forged({"alg": "RS256", "kid": "rsa", "jwk": jwk(OTHER_RSA, "rsa")}, None),
        token(OTHER_RSA),
        token(OTHER_RSA, kid="unknown"),
        token(kid=None),
        token(EC, "ES256", "rsa"),
        f"{head}.{_b64(json.dumps(claims(sub='mallory')).encode())}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        "..",
        "a.b.c",
        f"{_b64(b'[]')}.{body}.{signature}",
        f"{_b64(b'{')}.{body}.{signature}",
    ]
    for forgery in forgeries:
        with pytest.raises(UnauthorizedError):
            verify(config, forgery)


def test_a_key_of_the_set_that_is_symmetric_is_never_used(config: JwtConfig, jwks_file: Path) -> None:
    secret = b"s" * 32
    jwks_file.write_text(
        json.dumps({"keys": [{"kty": "oct", "k": _b64(secret), "kid": "oct", "alg": "HS256"}, jwk(RSA, "rsa")]})
    )
    with pytest.raises(UnauthorizedError):
        verify(config, _forged({"alg": "HS256", "kid": "oct"}, secret))


class _Provider(BaseHTTPRequestHandler):
    keys: list[dict[str, Any]] = []
    num_asked = 0
    status = 200

    def do_GET(self) -> None:
        type(self).num_asked += 1
        body = json.dumps({"keys": self.keys}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[tuple[type[_Provider], JwtConfig]]:
    class Provider(_Provider):
        keys = [jwk(RSA, "rsa")]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
    yield Provider, JwtConfig(issuer="https://login.example.org/", audience="paddock", jwks_url=url)
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_keys_are_fetched_once_and_again_when_they_change(
    provider: tuple[type[_Provider], JwtConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, config = provider

    async def scenario() -> None:
        checker = Tokens(config)
        callers = await asyncio.gather(*(checker.verify(token()) for _ in range(10)))
        assert {caller.name for caller in callers} == {"jwt:alice"}
        assert server.num_asked == 1

        # Rotation: a token of the new key is refused until the set may be read again, then taken.
        server.keys = [jwk(OTHER_RSA, "new")]
        for _ in range(20):
            with pytest.raises(UnauthorizedError):
                await checker.verify(token(OTHER_RSA, kid="new"))
        assert server.num_asked == 1
        monkeypatch.setattr(tokens, "_MIN_SECONDS_BETWEEN_READS", 0.0)
        assert (await checker.verify(token(OTHER_RSA, kid="new"))).name == "jwt:alice"
        assert server.num_asked == 2
        with pytest.raises(UnauthorizedError):  # the old key is gone
            await checker.verify(token())

        # A provider that is down: what is known stays good.
        server.status = 503
        monkeypatch.setattr(tokens, "_KEYS_KEPT_SECONDS", 0.0)
        assert (await checker.verify(token(OTHER_RSA, kid="new"))).name == "jwt:alice"
        assert server.num_asked > 2

    asyncio.run(scenario())


def test_without_any_keys_the_answer_is_502(provider: tuple[type[_Provider], JwtConfig]) -> None:
    server, config = provider
    server.status = 500
    with pytest.raises(KeysUnreadableError):
        verify(config, token())


def test_a_file_of_keys_is_read_again(config: JwtConfig, jwks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MIN_SECONDS_BETWEEN_READS", 0.0)

    async def scenario() -> None:
        checker = Tokens(config)
        await checker.verify(token())
        jwks_file.write_text(json.dumps({"keys": [jwk(OTHER_RSA, "new")]}))
        assert (await checker.verify(token(OTHER_RSA, kid="new"))).name == "jwt:alice"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"jwks_url": "http://login.example.org/jwks"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks_url": "https://a/jwks", "jwks_file": "/jwks"},
    ],
)
def test_where_keys_may_come_from(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        JwtConfig.model_validate({"issuer": "i", "audience": "a", **source})
