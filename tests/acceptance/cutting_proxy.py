"""A proxy on loopback that loses answers: what a client sees of a server whose connection broke after the work was
done. It counts what passes."""

from __future__ import annotations

import socket
import threading
from collections import Counter


class CuttingProxy:
    """`with CuttingProxy(port) as proxy:`; `proxy.url` leads to the server at `port` of this machine.

    A request with the header `X-Cut: NAME` loses its answer the first time that NAME comes. `seen` counts the requests
    of each `X-Cut` or `X-Count`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass requests on, one after the other, as long as the client keeps the connection."""
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            try:
                while request := _read_message(client):
                    server.sendall(request)
                    answer = _read_message(server)
                    if self._is_cut(request):
                        return
                    client.sendall(answer)
            except OSError:  # one of the two has left
                return

    def _is_cut(self, request: bytes) -> bool:
        headers = _headers(request)
        with self._lock:
            if "x-count" in headers:
                self.seen[headers["x-count"]] += 1
            if "x-cut" in headers:
                self.seen[headers["x-cut"]] += 1
                return self.seen[headers["x-cut"]] == 1
        return False


def _headers(message: bytes) -> dict[str, str]:
    lines = message.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read_message(connection: socket.socket) -> bytes:
    """One HTTP message with its body; nothing when the other side has closed."""
    message = b""
    while b"\r\n\r\n" not in message:
        if not (piece := connection.recv(65536)):
            return b""
        message += piece
    headers = _headers(message)
    head_size = message.index(b"\r\n\r\n") + 4
    if headers.get("transfer-encoding") == "chunked":
        while not message.endswith(b"0\r\n\r\n"):
            message += connection.recv(65536) or _broken()
    else:
        while len(message) < head_size + int(headers.get("content-length", 0)):
            message += connection.recv(65536) or _broken()
    return message


def _broken() -> bytes:
    raise ConnectionError("The message ended in its middle.")
