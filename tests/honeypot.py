"""A web server on loopback that counts who comes by, and the plain answers that redirects and bodies are tested with."""

from __future__ import annotations

import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Honeypot:
    """`with Honeypot("127.0.0.1") as pot:`; `pot.num_connections` counts connections, whatever is said on them.

    `/to?…` redirects to what follows the question mark, `/gzip` answers compressed, all else with `content`."""

    def __init__(self, address: str, port: int = 0, content: bytes = b'{"secret":1}\n') -> None:
        self.num_connections = 0
        self.content = content
        self.content_type = "application/octet-stream"
        pot = self

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True

            def verify_request(self, request: Any, client_address: Any) -> bool:
                pot.num_connections += 1
                return True

        self._server = Server((address, port), _handler(self))
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Honeypot:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(pot: Honeypot) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/to":
                self.send_response(int(parse_qs(parts.query).get("status", ["302"])[0]))
                # As bytes: what a server sends need not be a URL at all.
                location = unquote(parts.query.partition("url=")[2], "latin-1")
                self._headers_buffer.append(b"Location: " + location.encode("latin-1") + b"\r\n")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if parts.path == "/status":
                self.send_error(int(parts.query))
                return
            content = pot.content
            self.send_response(200)
            if parts.path == "/gzip":
                content = gzip.compress(content)
                self.send_header("Content-Encoding", "gzip")
            if parts.path == "/br":
                self.send_header("Content-Encoding", "br")
            self.send_header("Content-Type", pot.content_type)
            if parts.path != "/endless":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content[: len(content) // 2] if parts.path == "/cut" else content)
                while parts.path == "/endless":
                    self.wfile.write(content)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    return Handler
