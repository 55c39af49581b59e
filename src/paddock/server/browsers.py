"""No web page drives a server on loopback: what a request's headers must say, whatever keys there are.

A page of another site can make its reader's browser send requests here. So `Host` must be known (a page whose name was
pointed at this machine is refused), a foreign `Origin` is refused, a body must be declared as JSON (which no form can),
and there is no CORS. `X-Forwarded-…` is read nowhere: anyone can write it.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from paddock.errors import ForbiddenError, InvalidRequestError
from paddock.settings import Settings, is_loopback

_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.-]+\+)?json")


class Browsers:
    """The hosts that one server answers under."""

    def __init__(self, settings: Settings) -> None:
        self._known = {name.lower() for name in (settings.host, *settings.allowed_hosts)}

    def check(self, method: str, headers: Headers) -> None:
        """Raise `ForbiddenError` or `InvalidRequestError` unless no foreign page can have sent this."""
        host = self._host(headers)
        for origin in headers.getlist("origin"):
            # Behind a proxy that ends TLS the scheme differs; name and port must not.
            if _netloc(origin) != host.lower():
                raise ForbiddenError("Requests from pages of another origin are refused.")
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        # Following a link to a page of ours is no harm: the page with the link does not see the answer.
        if foreign and (method != "GET" or headers.get("sec-fetch-mode") != "navigate"):
            raise ForbiddenError("Requests from pages of another origin are refused.")
        if method not in ("GET", "HEAD") and declares_body(headers):
            _check_body(headers)

    def _host(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            raise InvalidRequestError("The request has more than one Host header.")
        found = _HOST.fullmatch(hosts[0]) if hosts else None
        name = "" if found is None else found["name"].lower().strip("[]")
        if name not in self._known and not is_loopback(name):
            raise ForbiddenError("The Host header names neither this machine nor a configured host (`allowed_hosts`).")
        return hosts[0]


def declares_body(headers: Headers) -> bool:
    """Whether a body follows the head."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _check_body(headers: Headers) -> None:
    """Raise `InvalidRequestError` unless a body is declared as plain JSON in UTF-8."""
    if not _is_json(headers.getlist("content-type")):
        raise InvalidRequestError(
            "The body must be JSON in UTF-8: send the header `Content-Type: application/json`.", pointer="Content-Type"
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise InvalidRequestError(
            "Bodies are taken as they are, not compressed: send no `Content-Encoding`.", pointer="Content-Encoding"
        )


def _is_json(content_types: list[str]) -> bool:
    if len(content_types) != 1:
        return False
    media_type, *parameters = (part.strip().lower() for part in content_types[0].split(";"))
    charsets = [parameter.partition("=")[2].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    return _JSON_TYPE.fullmatch(media_type) is not None and all(c in ("utf-8", "utf8", "us-ascii") for c in charsets)
