"""What a web page can make a browser send, and what it must not reach."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from paddock.errors import ForbiddenError, InvalidRequestError, PaddockError
from paddock.server.browsers import Browsers
from paddock.settings import Settings

SETTINGS = Settings(allowed_hosts=("Paddock.Example",))


def check(method: str = "GET", /, *more: tuple[str, str], **headers: str) -> None:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(name.encode(), value.encode("latin-1")) for name, value in more]
    Browsers(SETTINGS).check(method, Headers(raw=raw))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8321",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.9.9.9:65535",
        "[::1]",
        "[::1]:8321",
        "paddock.example",
        "PADDOCK.EXAMPLE:443",
    ],
)
def test_hosts_that_are_known(host: str) -> None:
    check(host=host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "::1",
        "[::1",
        "[::]",
        "[::2]:80",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil.example#localhost",
        "evil.example/localhost",
        "evil.example\\localhost",
        "localhost evil.example",
        "localhost,evil.example",
        "localhost:evil",
        "localhost:80:80",
        "localhost:",
        "localhost:999999",
        "lоcalhost".encode().decode("latin-1"),  # a Cyrillic о
        "xn--lcalhost-7eg",
        "\xa0localhost",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    with pytest.raises(ForbiddenError):
        check(host=host)


def test_there_is_one_host() -> None:
    with pytest.raises(ForbiddenError):
        check()
    with pytest.raises(InvalidRequestError, match="more than one"):
        check("GET", ("host", "localhost"), ("host", "evil.example"))
    with pytest.raises(ForbiddenError):
        check("GET", ("x-forwarded-host", "localhost"), ("host", "evil.example"))


@pytest.mark.parametrize("origin", ["http://localhost:8321", "https://localhost:8321", "HTTP://LOCALHOST:8321"])
def test_the_servers_own_origin(origin: str) -> None:
    check("POST", host="localhost:8321", origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8321",
        "http://localhost:8321.evil.example",
        "http://evil.example/localhost:8321",
        "http://localhost:8321@evil.example",
        "file://",
        "chrome-extension://abc",
        "http://[",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_foreign_origins(method: str, origin: str) -> None:
    with pytest.raises(ForbiddenError, match="another origin"):
        check(method, host="localhost:8321", origin=origin)


def test_a_second_origin_is_looked_at_too() -> None:
    with pytest.raises(ForbiddenError, match="another origin"):
        check("POST", ("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example"))


@pytest.mark.parametrize(
    ("method", "site", "mode", "allowed"),
    [
        ("GET", "none", "navigate", True),
        ("GET", "same-origin", "cors", True),
        ("GET", "cross-site", "navigate", True),
        ("GET", "cross-site", "no-cors", False),
        ("GET", "same-site", "no-cors", False),  # another port of this machine
        ("POST", "cross-site", "navigate", False),
        ("DELETE", "cross-site", "cors", False),
    ],
)
def test_what_browsers_say_of_the_page(method: str, site: str, mode: str, *, allowed: bool) -> None:
    headers = {"host": "localhost", "sec_fetch_site": site, "sec_fetch_mode": mode}
    if allowed:
        check(method, **headers)
    else:
        with pytest.raises(ForbiddenError, match="another origin"):
            check(method, **headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "content_types",
    [
        [],
        ["text/plain"],
        ["text/plain; application/json"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=application/json"],
        ["application/jsonp"],
        ["application/json", "text/plain"],
        ["text/json"],
    ],
)
def test_a_body_that_a_form_can_send_is_refused(method: str, content_types: list[str]) -> None:
    for body in (("content-length", "5"), ("transfer-encoding", "chunked")):
        with pytest.raises(InvalidRequestError, match="Content-Type: application/json"):
            check(method, body, *(("content-type", value) for value in content_types), host="localhost")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
def test_json_is_taken(content_type: str) -> None:
    check("POST", host="localhost", content_length="5", content_type=content_type)
    check("POST", host="localhost", content_length="0")


def test_errors_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(PaddockError) as caught:
        check(host="<script>")
    assert "script" not in caught.value.detail
