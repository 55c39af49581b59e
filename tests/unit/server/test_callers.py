"""Keys, roles, and that nobody gets to see a key again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from paddock import settings
from paddock.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from paddock.jobs.local import start_process
from paddock.server.callers import ANYONE, Caller, Callers, address_of
from paddock.settings import Settings

KEY = "a-plain-key-of-the-administrator"
READ_KEY = "another-key-that-may-only-look"


@pytest.fixture
def with_keys() -> Settings:
    read = {"key_sha256": settings.sha256_of_key(READ_KEY), "name": "looker", "role": "read"}
    return Settings.model_validate({"api_keys": [KEY, read]})


def _headers(*values: str) -> Headers:
    return Headers(raw=[(b"authorization", value.encode("latin-1")) for value in values])


def test_keys_name_their_caller(with_keys: Settings) -> None:
    callers = Callers(with_keys)
    assert asyncio.run(callers.identify(_headers(f"Bearer {READ_KEY}"))) == Caller("key:looker", "read")
    digest = settings.sha256_of_key(KEY)
    assert asyncio.run(callers.identify(_headers(f"bearer  {KEY}"))) == Caller(f"key:key-{digest[:8]}", "write")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [KEY],
        ["Bearer"],
        ["Bearer "],
        [f"Basic {KEY}"],
        [f"Bearer {KEY}x"],
        [f"Bearer {KEY[:-1]}"],
        [f"Bearer {KEY.upper()}"],
        [f"Bearer {settings.sha256_of_key(KEY)}"],  # the hash is not the key
        [f"Bearer {KEY}", f"Bearer {KEY}"],
        ["Bearer \xff\xfe"],
        ["Bearer a.b.c"],
    ],
)
def test_whatever_else_is_401(with_keys: Settings, values: list[str]) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        asyncio.run(Callers(with_keys).identify(_headers(*values)))
    assert caught.value.challenge.startswith("Bearer")
    assert ("invalid_token" in caught.value.challenge) == bool(values)
    assert KEY not in caught.value.detail


def test_without_keys_anyone_may_ask() -> None:
    assert asyncio.run(Callers(Settings()).identify(_headers("Bearer whatever"))) == ANYONE


def test_roles() -> None:
    reader = Caller("key:looker", "read")
    for method in ("GET", "HEAD"):
        reader.check_role(method)
    for method in ("POST", "DELETE", "PUT", "PATCH", "OPTIONS", "get"):
        with pytest.raises(ForbiddenError, match="role `write`"):
            reader.check_role(method)
        Caller("key:admin", "write").check_role(method)


def test_a_plain_key_is_forgotten_once_it_is_hashed(with_keys: Settings) -> None:
    for text in (repr(with_keys), str(with_keys), with_keys.model_dump_json()):
        assert KEY not in text
        assert settings.sha256_of_key(KEY) in text


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["short"], "at least 16"),
        (["with a space in the middle"], "no spaces"),
        (["übergroßer-Schlüssel-der-Stadt"], "ASCII"),
        ([KEY, KEY], "are the same"),
        ([{"key_sha256": KEY, "name": "a"}], "api_keys.0.key_sha256"),
        ([{"key_sha256": "0" * 64, "name": "a", "role": "admin"}], "api_keys.0.role"),
        ([{"key_sha256": "0" * 64, "name": "new\nline"}], "api_keys.0.name"),
        ([17], "api_keys.0"),
        (KEY, "api_keys"),
    ],
)
def test_a_key_that_cannot_be_right_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, keys: object, words: str
) -> None:
    monkeypatch.delenv("PADDOCK_API_KEYS", raising=False)
    with pytest.raises(InvalidRequestError, match=words) as caught:
        settings.load(api_keys=keys)
    for secret in (KEY, "short", "with a space", "Schlüssel"):
        assert secret not in str(caught.value)


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_API_KEYS", f"['{KEY}']")
    assert settings.load().api_keys[0].key_sha256 == settings.sha256_of_key(KEY)


def test_child_processes_know_no_keys(tmp_path: Path, with_keys: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_API_KEYS", f"['{KEY}']")
    monkeypatch.setenv("PADDOCK_ADMIN_KEY", KEY)  # as a configuration may name it: `${env.PADDOCK_ADMIN_KEY}`
    # What a child is given: the first line of its standard input, and its environment.
    shown = tmp_path / "shown"
    spy = tmp_path / "spy.py"
    spy.write_text("import os, sys\nprint(sys.stdin.readline(), dict(os.environ))\n")
    monkeypatch.setattr(sys, "executable", str(_python_that_runs(spy, tmp_path)))
    process = start_process(["run-job"], with_keys, shown)
    process.wait(30)
    assert process.stdin is not None
    process.stdin.close()
    text = shown.read_text()
    assert '"max_body_bytes":' in text
    assert "PATH" in text
    assert KEY not in text
    assert settings.sha256_of_key(KEY) not in text


def _python_that_runs(script: Path, folder: Path) -> Path:
    command = folder / "python"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    command.chmod(0o700)
    assert os.access(command, os.X_OK)
    return command


def test_addresses() -> None:
    assert address_of(("10.0.0.1", 5)) == address_of(("10.0.0.1", 6)) == "address:10.0.0.1"
    assert address_of(("2001:db8::1", 5)) == address_of(("2001:db8::ffff:1", 5)) == "address:2001:db8::/64"
    assert address_of(None) == "address:"


def test_a_new_key_is_printed_once_and_fits_its_entry() -> None:
    import yaml

    made = subprocess.run(
        [sys.executable, "-m", "paddock", "keys", "new", "--name", "ci", "--role", "read"],
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    assert key.startswith("pdk_")
    assert len(key) > 40
    assert key not in made.stderr
    loaded = Settings.model_validate(yaml.safe_load(made.stderr[made.stderr.index("api_keys:") :]))
    (entry,) = loaded.api_keys
    assert (entry.name, entry.role, entry.key_sha256) == ("ci", "read", settings.sha256_of_key(key))
