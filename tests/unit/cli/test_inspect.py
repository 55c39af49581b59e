"""`paddock inspect` and `paddock providers` against the real app."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

from app_server import AppServer
from paddock import __version__

Invoke = Callable[..., Result]


def test_the_server_says_what_it_is(invoke: Invoke, server: AppServer) -> None:
    assert invoke("inspect", "health").output == f"{server.url}: OK\n"
    assert invoke("inspect", "version").output == f"{server.url}: Paddock {__version__}\n"
    assert json.loads(invoke("inspect", "version", "--json").output) == {"version": __version__}
    assert json.loads(invoke("inspect", "health", "--json").output) == {"status": "OK"}
    assert ["GET", "/v1beta/datasets"] in [line.split() for line in invoke("inspect", "routes").output.splitlines()]
    assert {"route", "method"} <= set(json.loads(invoke("inspect", "routes", "--json").output)["data"][0])


def test_a_server_that_is_not_there_has_no_health(invoke: Invoke) -> None:
    assert "No server answers" in invoke("inspect", "health", "--url", "http://127.0.0.1:9", code=1).output


def test_providers(invoke: Invoke) -> None:
    assert [line.split()[0] for line in invoke("providers", "list").output.splitlines()] == ["Provider", "local", "lab"]
    assert json.loads(invoke("providers", "show", "lab").output)["provider_type"] == "remote::openai"
    assert [p["provider_id"] for p in json.loads(invoke("providers", "list", "--json").output)["data"]] == [
        "local", "lab",
    ]  # fmt: skip
    assert "nobody" in invoke("providers", "show", "nobody", code=1).output
