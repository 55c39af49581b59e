"""The one guarded way out to a URL: only hosts that the settings name, only addresses that were checked, within limits.

A host's addresses are looked up once, all of them checked, and those very ones dialled; every redirect starts over. What
an error says of a host is what the client wrote, never where a name or a redirect leads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from paddock.errors import InvalidRequestError

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""A host's name → its addresses."""

_CHUNK_BYTES = 64 * 1024
_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 30
_SLACK_BYTES = 1024 * 1024
"""So much may come out of a compressed body before its ratio counts."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::\d{1,5})?")
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

# Not reached without an entry that says so. Of IPv6 only what is given out as global unicast counts as public, without
# the forms that carry an IPv4 address (6to4, Teredo; NAT64 and mapped ones lie outside).
_PRIVATE_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
]
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_V6 = [ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


class EgressError(InvalidRequestError):
    """A URL that may not be read from here, or could not be."""


class LimitError(EgressError):
    """What is behind a URL is too large, or comes too slowly."""


@dataclass(frozen=True)
class Limits:
    """How far one fetch may go: bytes of the body as it is written, seconds in all."""

    max_bytes: int
    seconds: float
    max_redirects: int = 5
    max_ratio: int = 200
    """Bytes out of a compressed body for each byte in."""


@dataclass(frozen=True)
class Fetched:
    """What the last answer said of itself."""

    content_type: str
    path: str
    num_bytes: int


class _Host(NamedTuple):
    """An entry of the allow-list: a name, `*.` and a name, or an address; without a port the scheme's own."""

    host: str
    port: int | None

    def matches(self, host: str, port: int, scheme: str) -> bool:
        if port != (_DEFAULT_PORTS[scheme] if self.port is None else self.port):
            return False
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


class Egress:
    """Fetches URLs of `hosts`. Names may have their addresses in `networks`, beside public ones."""

    def __init__(self, hosts: Sequence[str], networks: Sequence[str] = (), *, resolve: Resolve | None = None) -> None:
        self._hosts = [_entry(host) for host in hosts]
        self._networks = [_network(network) for network in networks]
        self._resolve = resolve or _look_up

    @property
    def has_hosts(self) -> bool:
        """Whether anything may be fetched at all."""
        return bool(self._hosts)

    async def fetch(self, url: str, write: Callable[[bytes], object], limits: Limits) -> Fetched:
        """Write the body of what a URL names, decoded, to `write`, piece by piece. Raises `EgressError`."""
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._follow(url, write, limits)
        except TimeoutError:
            raise LimitError(f"The URL did not give all it has within {limits.seconds:g} s.") from None

    async def _follow(self, url: str, write: Callable[[bytes], object], limits: Limits) -> Fetched:
        import aiohttp
        from yarl import URL

        target = _parse(url, "The URL")
        for hop in range(limits.max_redirects + 1):
            subject = "The URL" if hop == 0 else "A redirect of the URL"
            addresses = await self._admit(target, subject)
            try:
                async with _session(addresses) as session, session.get(target, allow_redirects=False) as response:
                    if response.status not in (301, 302, 303, 307, 308):
                        return await _take(response, write, limits)
                    location = response.headers.get("Location", "")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    raise LimitError(f"{subject} leads to a host that is silent.") from None
                # The library's own words would name the address that was dialled.
                raise EgressError(f"{subject} leads to a host that cannot be reached, or that breaks off.") from None
            subject = "A redirect of the URL"
            _check_characters(location, subject)
            try:
                joined = str(target.join(URL(location, encoded=True)))
            except ValueError:
                raise EgressError(f"{subject} is no URL.") from None
            was_encrypted = target.scheme == "https"
            target = _parse(joined, subject)
            if was_encrypted and target.scheme != "https":
                raise EgressError(f"{subject} leads from https to http.")
        raise EgressError(f"The URL is redirected more than {limits.max_redirects} times.")

    async def _admit(self, target: URL, subject: str) -> Sequence[Address]:
        """The checked addresses of a URL's host. Raises `EgressError` unless it may be reached."""
        host, port = _host(target), target.port
        assert port is not None
        literal = _address(host)
        shown = f"{subject} names {host!r}, a host" if subject == "The URL" else f"{subject} leads to a host"
        if not any(entry.matches(host, port, target.scheme) for entry in self._hosts):
            raise EgressError(f"{shown} that the setting `dataset_hosts` does not, or not with this port.")
        if literal is not None:
            return [literal]  # by its own entry: whoever configured it meant this very address
        try:
            addresses = [ipaddress.ip_address(address) for address in await self._resolve(host)]
        except (OSError, ValueError, UnicodeError):
            addresses = []
        if not addresses:
            raise EgressError(f"{shown} that has no address.")
        if not all(
            is_public(address) or any(address in network for network in self._networks) for address in addresses
        ):
            raise EgressError(
                f"{shown} that lies neither on the public internet nor in the setting `dataset_networks`."
            )
        return addresses


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, in no special form."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _PRIVATE_V4)
    # A zone (`fe80::1%eth0`) names an interface of this machine.
    return address.scope_id is None and address in _GLOBAL_V6 and not any(address in net for net in _PRIVATE_V6)


def _parse(url: str, subject: str) -> URL:
    from yarl import URL

    _check_characters(url, subject)
    try:
        # As it stands: what is checked here is what is dialled, with nothing decoded or mapped in between.
        target = URL(url, encoded=True)
        host, port, scheme = _host(target), target.port, target.scheme
    except ValueError:
        raise EgressError(f"{subject} cannot be read as a URL.") from None
    if scheme not in _DEFAULT_PORTS:
        raise EgressError(f"{subject} begins with neither http:// nor https://.")
    if "@" in target.raw_authority:
        raise EgressError(f"{subject} holds a name or a password; none is sent from here.")
    if not host or not port:
        raise EgressError(f"{subject} names no host, or no port that there is.")
    is_usual = _AUTHORITY.fullmatch(target.raw_authority) is not None
    if not is_usual or (_address(host) is None and not _is_name(host)):
        raise EgressError(f"{subject} names a host that is neither a name nor an address in its usual form.")
    return target


def _host(target: URL) -> str:
    """A URL's host in the form in which two spellings of one are equal; empty where there is none."""
    host = (target.raw_host or "").lower()
    address = _address(host)
    return host if address is None else str(address)


def _check_characters(url: str, subject: str) -> None:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise EgressError(
            f"{subject} has characters that belong in none; a host's name outside ASCII is written xn--…."
        )


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    # A last label of digits makes it an IPv4 address in one of the old spellings, for whoever resolves it.
    is_old_address = re.fullmatch(r"\d+|0x[0-9a-f]*", host.rpartition(".")[2])
    return _NAME.fullmatch(host) is not None and len(host) <= 253 and not is_old_address


def _entry(text: str) -> _Host:
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:/@]+)(?::(\d{1,5}))?", text.lower())
    host = found.group(1).strip("[]") if found else ""
    if found is None or (_address(host) is None and not _is_name(host.removeprefix("*."))):
        raise InvalidRequestError(f"`dataset_hosts` holds {text!r}, which is neither a host nor host:port.")
    address = _address(host)
    return _Host(host if address is None else str(address), int(found.group(2)) if found.group(2) else None)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise InvalidRequestError(f"`dataset_networks` holds {text!r}, which is no network like 10.0.0.0/8.") from None


async def _look_up(host: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _session(addresses: Sequence[Address]) -> aiohttp.ClientSession:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Checked(AbstractResolver):
        """Knows the addresses that were checked, and asks nobody."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=str(address),
                    port=port,
                    family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in addresses
            ]

        async def close(self) -> None:
            pass

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=Checked(), use_dns_cache=False, force_close=True, limit=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "paddock"},
        auto_decompress=False,
        trust_env=False,  # no proxy: it would resolve names by itself
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS),
    )


async def _take(response: aiohttp.ClientResponse, write: Callable[[bytes], object], limits: Limits) -> Fetched:
    if response.status != 200:
        raise EgressError(f"The URL is answered with the status {response.status}.")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise EgressError("The URL is answered in a Content-Encoding that is not read here.")
    if encoding == "identity" and (response.content_length or 0) > limits.max_bytes:
        raise _too_large(limits)
    decoder: Any = None if encoding == "identity" else zlib.decompressobj(wbits=47)
    num_in = num_out = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        num_in += len(chunk)
        for piece in [chunk] if decoder is None else _decoded(decoder, chunk):
            num_out += len(piece)
            if num_out > limits.max_bytes:
                raise _too_large(limits)
            if num_out > limits.max_ratio * num_in + _SLACK_BYTES:
                raise EgressError("The URL's body is compressed beyond measure.")
            write(piece)
    if decoder is not None and not decoder.eof:
        raise EgressError("The URL's compressed body breaks off.")
    if decoder is not None and decoder.unused_data:
        raise EgressError("The URL's compressed body goes on behind its end.")
    return Fetched(response.headers.get("Content-Type", ""), response.url.path, num_out)


def _decoded(decoder: Any, chunk: bytes) -> Any:
    """The pieces that a compressed chunk unfolds to, each of bounded size."""
    while chunk:
        try:
            yield decoder.decompress(chunk, _CHUNK_BYTES)
        except zlib.error:
            raise EgressError("The URL's compressed body is broken.") from None
        chunk = decoder.unconsumed_tail


def _too_large(limits: Limits) -> LimitError:
    return LimitError(f"The URL gives more than {limits.max_bytes} bytes.")
