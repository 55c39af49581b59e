"""`paddock chat` against the real app and a model server on loopback."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from aiohttp import web
from click.testing import CliRunner, Result

from app_server import AppServer
from model_server import ModelServer
from paddock.cli import main

Invoke = Callable[..., Result]


def test_one_message_one_answer(invoke: Invoke, adder: str, model_server: ModelServer) -> None:
    words = ("chat", "--model", adder, "--system", "Add.", "--max-tokens", "7", "3 + 1")
    assert invoke(*words).output == "4\n"
    _, body, _ = model_server.requests[-1]
    assert [message["content"] for message in body["messages"]] == ["Add.", "3 + 1"]
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert json.loads(invoke(*words, "--json").output)["choices"][0]["message"]["content"] == "4"


def test_a_pipe_is_one_message_for_the_first_model(server: AppServer, adder: str) -> None:
    result = CliRunner().invoke(main, ["chat"], input="2 + 1\n", env={"PADDOCK_URL": server.url})
    assert (result.exit_code, result.output) == (0, "3\n")
    empty = CliRunner().invoke(main, ["chat"], input="\n", env={"PADDOCK_URL": server.url})
    assert (empty.exit_code, "There is no message." in empty.output) == (2, True)


def test_without_a_model_there_is_a_sentence(invoke: Invoke) -> None:
    assert "paddock models register" in invoke("chat", "hi", code=1).output
    assert "nobody" in invoke("chat", "--model", "nobody", "hi", code=1).output


class Terminal:
    """A program on a terminal of its own: what is awaited on the screen is read up to its end, and no further."""

    def __init__(self, *command: str) -> None:
        self._outer, inner = pty.openpty()
        self._unread = b""
        self.process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
        os.close(inner)

    def await_text(self, text: bytes) -> bytes:
        deadline = time.monotonic() + 60
        while text not in self._unread:
            assert select.select([self._outer], [], [], deadline - time.monotonic())[0], self._unread
            self._unread += os.read(self._outer, 1024)
        end = self._unread.index(text) + len(text)
        seen, self._unread = self._unread[:end], self._unread[end:]
        return seen

    def type(self, text: bytes) -> None:
        os.write(self._outer, text)

    def close(self) -> int:
        """The exit code of the program, which must have ended, or end now."""
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            os.close(self._outer)


def test_a_conversation_on_a_terminal(server: AppServer, adder: str, model_server: ModelServer) -> None:
    terminal = Terminal(sys.executable, "-m", "paddock", "chat", "--model", adder, "--url", server.url)
    terminal.await_text(b">>> ")
    terminal.type(b"1 + 1\n")
    terminal.await_text(b"\n2\r\n>>> ")
    terminal.type(b"\n")
    terminal.await_text(b">>> ")
    terminal.type(b"4 + 1\n")
    terminal.await_text(b"\n5\r\n>>> ")
    terminal.type(b"\x04")
    assert terminal.close() == 0
    contents = [message["content"] for message in model_server.requests[-1][1]["messages"]]
    assert contents == ["1 + 1", "2", "4 + 1"]


def test_ctrl_c_leaves_a_conversation(server: AppServer, adder: str) -> None:
    terminal = Terminal(sys.executable, "-m", "paddock", "chat", "--model", adder, "--url", server.url)
    terminal.await_text(b">>> ")
    time.sleep(0.5)  # between its prompt and its wait for a line the signal would only be noted
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 0


LONG = "one two three four five six seven eight nine ten"


def test_an_answer_is_printed_as_it_is_made(server: AppServer, adder: str, model_server: ModelServer) -> None:
    """The first word is there while the model still waits to be let go on."""
    model_server.answer, model_server.pause_seconds = lambda _: LONG, 600
    terminal = Terminal(sys.executable, "-m", "paddock", "chat", "--model", adder, "--url", server.url, "count")
    terminal.await_text(b"one ")
    terminal.process.send_signal(signal.SIGINT)
    assert b"Traceback" not in terminal.await_text(b"\n")
    assert terminal.close() == 130
    wait_until_left(model_server)


def test_ctrl_c_ends_one_answer_of_a_conversation(server: AppServer, adder: str, model_server: ModelServer) -> None:
    model_server.answer, model_server.pause_seconds = lambda _: LONG, 600
    terminal = Terminal(sys.executable, "-m", "paddock", "chat", "--model", adder, "--url", server.url)
    terminal.await_text(b">>> ")
    terminal.type(b"count\n")
    terminal.await_text(b"one ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.await_text(b">>> ")
    wait_until_left(model_server)
    model_server.answer, model_server.pause_seconds = lambda _: "fine", 0
    terminal.type(b"and now?\n")
    terminal.await_text(b"fine\r\n>>> ")
    assert [message["content"] for message in model_server.requests[-1][1]["messages"]] == ["and now?"]
    terminal.type(b"\x04")
    assert terminal.close() == 0


def wait_until_left(model_server: ModelServer) -> None:
    deadline = time.monotonic() + 60
    while not model_server.num_left:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_came_of_an_answer_that_broke_off_is_shown_with_the_error(
    invoke: Invoke, adder: str, model_server: ModelServer
) -> None:
    delta = json.dumps({"choices": [{"index": 0, "delta": {"content": "half "}}]})
    error = json.dumps({"error": {"message": "out of memory"}})
    events = f"data: {delta}\n\ndata: {error}\n\n"
    model_server.answer = lambda _: web.Response(text=events, content_type="text/event-stream")
    output = invoke("chat", "--model", adder, "hi", code=1).output
    assert output.startswith("half \nError: The provider lab broke off its answer")
