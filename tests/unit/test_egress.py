from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import pytest

from egress_vectors import (
    INNER_ADDRESSES,
    LOOPBACK_SPELLINGS,
    NUM_VECTORS,
    REDIRECTS,
    SPLIT_BY_WHITE_SPACE,
    URLS,
)
from honeypot import Honeypot
from paddock import egress
from paddock.egress import Egress, EgressError, Fetched, LimitError, Limits
from paddock.errors import InvalidRequestError

LIMITS = Limits(max_bytes=100_000, seconds=20)

# The allowed server stands on 127.0.0.2, which its network makes good; the honeypot beside it on 127.0.0.1 and ::1.
NETWORKS = ("127.0.0.2/32",)
ADDRESSES = {
    "data.test": ["127.0.0.2"],
    "inner.test": ["127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.2"],
    "mixed.test": ["127.0.0.2", "127.0.0.1"],
}


async def resolve(host: str) -> Sequence[str]:
    if host not in ADDRESSES:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} at 127.0.0.1")
    return ADDRESSES[host]


class Net:
    """The allowed server, the honeypots on the same port, and what is fetched past them."""

    def __init__(self, good: Honeypot, bad: list[Honeypot]) -> None:
        self.good = good
        self.bad = bad
        names = [f"{name}.test:{good.port}" for name in ("data", "inner", "mapped", "mixed", "nowhere")]
        self.egress = Egress(names, NETWORKS, resolve=resolve)

    def fetch(self, url: str, *, egress: Egress | None = None, limits: Limits = LIMITS) -> tuple[bytes, Fetched]:
        pieces: list[bytes] = []
        fetched = asyncio.run((egress or self.egress).fetch(self.here(url), pieces.append, limits))
        return b"".join(pieces), fetched

    def here(self, url: str) -> str:
        return url.replace("PORT", str(self.good.port))

    @property
    def num_caught(self) -> int:
        return sum(pot.num_connections for pot in self.bad)


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Honeypot("127.0.0.2", content=b"good") as good:
        with Honeypot("127.0.0.1", good.port) as bad, Honeypot("::1", good.port) as bad6:
            yield Net(good, [bad, bad6])


def _refuse(net: Net, url: str, egress: Egress | None = None) -> str:
    before = net.num_caught
    with pytest.raises(EgressError) as raised:
        net.fetch(url, egress=egress)
    assert net.num_caught == before
    return raised.value.detail


def test_the_corpus_is_large() -> None:
    assert NUM_VECTORS >= 300
    for corpus in (LOOPBACK_SPELLINGS, INNER_ADDRESSES, URLS, REDIRECTS):
        assert len(set(corpus)) == len(corpus), sorted({vector for vector in corpus if corpus.count(vector) > 1})


def test_what_is_allowed_gets_through(net: Net) -> None:
    before = net.num_caught, net.good.num_connections
    for url in (
        "http://data.test:PORT/a.jsonl",
        "http://DATA.test:PORT/a.jsonl",
        "HTTP://data.test:PORT/?q=http://127.0.0.1:PORT/@#@127.0.0.1:PORT",
        f"http://data.test:PORT/to?url={quote('http://data.test:')}PORT/x",
        "http://data.test:PORT/to?url=/x",
        "http://data.test:PORT/to?url=x?y",
        "http://data.test:PORT/to?status=308&url=//data.test:PORT/",
        "http://data.test:PORT/to?url=/to?url=/to?url=/x",
    ):
        content, fetched = net.fetch(url)
        assert (content, fetched.num_bytes, fetched.content_type) == (b"good", 4, "application/octet-stream"), url
    assert (net.num_caught, net.good.num_connections - before[1]) == (before[0], 8 + 5 + 2)


def test_the_honeypot_catches_who_does_not_look(net: Net) -> None:
    """Many of the spellings do lead there, by the system's own resolver: the vectors have teeth."""
    caught = 0
    for host in LOOPBACK_SPELLINGS:
        before = net.num_caught
        try:
            with socket.create_connection((host.strip("[]"), net.good.port), timeout=2) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                connection.recv(100)
        except (OSError, UnicodeError, ValueError):
            continue
        caught += net.num_caught > before
    assert caught >= 25


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_a_spelling_of_loopback_is_refused(net: Net, host: str) -> None:
    detail = _refuse(net, f"http://{host}:PORT/")
    assert "127.0.0.1" not in detail.replace(repr(host.lower()), "")


@pytest.mark.parametrize("address", INNER_ADDRESSES)
def test_an_allowed_name_with_an_inner_address_is_refused(net: Net, address: str) -> None:
    assert not egress.is_public(ipaddress.ip_address(address))

    async def inner(_host: str) -> Sequence[str]:
        return [address]

    async def one_of_two(_host: str) -> Sequence[str]:
        return ["127.0.0.2", address]

    for resolver in (inner, one_of_two):
        guarded = Egress(["rebound.test:*".replace("*", str(net.good.port))], NETWORKS, resolve=resolver)
        detail = _refuse(net, "http://rebound.test:PORT/", guarded)
        assert "neither on the public internet" in detail
        assert address not in detail


@pytest.mark.parametrize("url", URLS + SPLIT_BY_WHITE_SPACE)
def test_a_url_that_means_something_else_is_refused(net: Net, url: str) -> None:
    only = Egress([f"data.test:{net.good.port}"], NETWORKS, resolve=resolve)
    before = net.good.num_connections
    _refuse(net, url, only)
    assert net.good.num_connections == before


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_redirect_is_checked_like_the_first_url(net: Net, location: str) -> None:
    raw = location.encode("utf-8").decode("latin-1")
    detail = _refuse(net, f"http://data.test:PORT/to?url={quote(net.here(raw), encoding='latin-1')}")
    assert "127.0.0.1" not in detail
    assert "inner" not in detail


def test_a_name_is_resolved_once_and_dialled_as_checked(net: Net) -> None:
    answers = [["127.0.0.2"], ["127.0.0.1"]]
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    guarded = Egress([f"data.test:{net.good.port}"], NETWORKS, resolve=rebinding)
    before = net.num_caught
    assert net.fetch("http://data.test:PORT/", egress=guarded)[0] == b"good"
    assert asked == ["data.test"]
    # The next hop asks again, and the answer is looked at again.
    asked.clear()
    with pytest.raises(EgressError, match="neither on the public internet"):
        net.fetch("http://data.test:PORT/to?url=/x", egress=guarded)
    assert asked == ["data.test"] * 2
    assert net.num_caught == before


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert egress.is_public(ipaddress.ip_address(address))


def test_no_host_is_reached_by_default(net: Net) -> None:
    detail = _refuse(net, "http://data.test:PORT/", Egress([], resolve=resolve))
    assert (
        detail == "The URL names 'data.test', a host that the setting `dataset_hosts` does not, or not with this port."
    )


def test_an_address_in_the_settings_is_reached(net: Net) -> None:
    port = net.good.port
    before = net.num_caught
    assert net.fetch("http://127.0.0.2:PORT/", egress=Egress([f"127.0.0.2:{port}"]))[0] == b"good"
    assert net.fetch("http://[0::1]:PORT/", egress=Egress([f"[::1]:{port}"]))[0] == b'{"secret":1}\n'
    assert net.num_caught == before + 1
    # The entry is for that address and port alone.
    _refuse(net, "http://127.0.0.1:PORT/", Egress([f"127.0.0.2:{port}"]))
    _refuse(net, "http://127.0.0.1:PORT/", Egress(["127.0.0.1"]))
    _refuse(net, "http://inner.test:PORT/", Egress([f"127.0.0.1:{port}"], resolve=resolve))


def test_a_star_stands_for_labels_in_front() -> None:
    entry = egress._entry("*.example.org:8443")
    assert entry.matches("a.example.org", 8443, "https")
    assert entry.matches("a.b.example.org", 8443, "https")
    assert not entry.matches("example.org", 8443, "https")
    assert not entry.matches("notexample.org", 8443, "https")
    assert not entry.matches("a.example.org", 443, "https")
    assert egress._entry("Example.org").matches("example.org", 443, "https")
    assert not egress._entry("example.org").matches("example.org", 443, "http")


@pytest.mark.parametrize(
    "host", ["", "*", "http://a.org", "a.org/x", "a@b.org", "0x7f.1", "127.1", "a.org:http", "[::1"]
)
def test_an_entry_that_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="dataset_hosts"):
        Egress([host])


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"10\.0\.0\.0/33"):
        Egress([], ["10.0.0.0/33"])


def test_limits(net: Net) -> None:
    for path, limits, message in (
        ("", Limits(max_bytes=3, seconds=20), "more than 3 bytes"),
        ("endless", Limits(max_bytes=100_000, seconds=20), "more than 100000 bytes"),
        ("gzip", Limits(max_bytes=3, seconds=20), "more than 3 bytes"),
    ):
        with pytest.raises(LimitError, match=message):
            net.fetch(f"http://data.test:PORT/{path}", limits=limits)
    begun = time.monotonic()
    with pytest.raises(LimitError, match=r"within 0\.3 s"):
        net.fetch("http://data.test:PORT/endless", limits=Limits(max_bytes=10**12, seconds=0.3))
    assert time.monotonic() - begun < 5
    loop = "http://data.test:PORT" + "/to?url=" * 7 + "/x"
    with pytest.raises(EgressError, match="redirected more than 5 times"):
        net.fetch(loop)


def test_a_compressed_body_unfolds_within_bounds(net: Net) -> None:
    assert net.fetch("http://data.test:PORT/gzip")[0] == b"good"
    with Honeypot("127.0.0.2", content=b"\0" * 20_000_000) as bomb:
        guarded = Egress([f"data.test:{bomb.port}"], NETWORKS, resolve=resolve)
        with pytest.raises(EgressError, match="compressed beyond measure"):
            net.fetch(f"http://data.test:{bomb.port}/gzip", egress=guarded, limits=Limits(10**9, 20))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("status?404", "status 404"),
        ("status?500", "status 500"),
        ("cut", "breaks off"),
        ("br", "Content-Encoding"),
        ("to?status=304&url=/", "status 304"),
    ],
)
def test_answers_that_are_none(net: Net, path: str, message: str) -> None:
    assert message in _refuse(net, f"http://data.test:PORT/{path}")


def test_a_host_that_is_down_is_named_without_its_address(net: Net) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.2", 0))
        port = closed.getsockname()[1]
        guarded = Egress([f"data.test:{port}"], NETWORKS, resolve=resolve)
        detail = _refuse(net, f"http://data.test:{port}/", guarded)
    assert detail == "The URL leads to a host that cannot be reached, or that breaks off."


def test_the_environment_names_no_proxy(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    before = net.num_caught
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, net.here("http://127.0.0.1:PORT"))
    assert net.fetch("http://data.test:PORT/")[0] == b"good"
    assert net.num_caught == before
