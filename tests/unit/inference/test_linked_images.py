"""Images behind URLs, fetched from a server that the settings allow, and from nowhere else."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Sequence

import pytest

from honeypot import Honeypot
from paddock.egress import Egress
from paddock.errors import InvalidRequestError
from paddock.inference.linked_images import LinkedImages

PNG = b"\x89PNG\r\n\x1a\nnot really"


async def resolve(host: str) -> Sequence[str]:
    if host != "images.test":
        raise socket.gaierror
    return ["127.0.0.2"]


def linked(port: int) -> LinkedImages:
    return LinkedImages(Egress([f"images.test:{port}"], ["127.0.0.2/32"], resolve=resolve))


def test_many_conversations_fetch_one_image_once() -> None:
    with Honeypot("127.0.0.2", content=PNG) as server:

        async def many() -> list[str]:
            images = linked(server.port)
            url = f"http://images.test:{server.port}/cat.png"
            leaving = asyncio.create_task(images.data_url(url))
            waiting = [asyncio.create_task(images.data_url(url)) for _ in range(20)]
            await asyncio.sleep(0)
            leaving.cancel()
            found = await asyncio.gather(*waiting)
            return [*found, await images.data_url(url)]

        found = asyncio.run(many())
        assert set(found) == {f"data:image;base64,{base64.b64encode(PNG).decode()}"}
        assert len(found) == 21
        assert server.num_connections == 1


def test_only_where_the_settings_allow() -> None:
    with Honeypot("127.0.0.1", content=PNG) as inner:
        images = linked(inner.port)
        for url in (f"http://127.0.0.1:{inner.port}/x", f"http://other.test:{inner.port}/x"):
            images.check(url)
            with pytest.raises(InvalidRequestError, match="dataset_hosts"):
                asyncio.run(images.data_url(url))
        assert inner.num_connections == 0
    with pytest.raises(InvalidRequestError, match="no host"):
        LinkedImages(Egress(())).check("https://images.test/x")
    with pytest.raises(InvalidRequestError, match="neither"):
        linked(80).check("file:///etc/passwd")


def test_an_image_that_failed_is_asked_for_again() -> None:
    async def twice() -> None:
        images = linked(9)
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="cannot be reached"):
                await images.data_url("http://images.test:9/x")

    asyncio.run(twice())
