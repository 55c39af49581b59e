"""What every command shares: errors without tracebacks, the server that is meant."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from app_server import AppServer
from paddock.cli import COMMANDS, main
from paddock.cli.options import command_line
from paddock.client import DEFAULT_URL, Client


def commands() -> dict[str, click.Command]:
    """Every command that a person types, by its words."""
    found = {}
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": leaf for sub, leaf in command.commands.items()}
        elif not command.hidden:
            found[name] = command
    return found


def test_every_command_has_a_help_text_with_an_example() -> None:
    all_commands = commands()
    assert len(all_commands) > 25
    assert set(COMMANDS) >= {name.split()[0] for name in all_commands}
    without = [
        name
        for name, command in all_commands.items()
        if name != "serve" and "paddock " + name not in (command.help or "")
    ]
    assert without == []


def test_without_a_server_there_is_one_sentence_and_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    result = CliRunner().invoke(main, ["datasets", "list", "--url", url])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"Error: No server answers at {url}. Start one with `paddock serve`, or name another with --url or PADDOCK_URL."
    ]


def test_the_option_stands_over_the_variable(server: AppServer) -> None:
    result = CliRunner().invoke(
        main, ["datasets", "list", "--url", server.url], env={"PADDOCK_URL": "http://127.0.0.1:9"}
    )
    assert result.exit_code == 0, result.output


def test_a_suggested_command_goes_to_the_same_server() -> None:
    @click.command()
    @click.option("--url", default=DEFAULT_URL)
    def suggest(url: str) -> None:
        with Client(url) as client:
            click.echo(command_line(client, "jobs", "watch", "my job"))

    assert CliRunner().invoke(suggest, []).output == "paddock jobs watch 'my job'\n"
    assert CliRunner().invoke(suggest, ["--url", "http://x"]).output == "paddock jobs watch 'my job' --url http://x\n"


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_characters_that_a_terminal_lacks_are_shown_by_their_numbers(server: AppServer, encoding: str) -> None:
    source = {"type": "rows", "rows": []}
    body = {"dataset_id": "grün/日", "purpose": "eval/question-answer", "source": source}
    with Client(server.url) as client:
        client.post("/v1beta/datasets", body)

    def printed(*words: str) -> str:
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PADDOCK_URL": server.url}
        command = [sys.executable, "-m", "paddock", "datasets", *words]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(encoding)

    shown = {"ascii": "gr\\xfcn/\\u65e5", "iso-8859-1": "grün/\\u65e5"}[encoding]
    assert shown in printed("list")
    assert json.loads(printed("list", "--json"))["data"][0]["identifier"] == "grün/日"


def test_a_word_that_is_no_text_is_refused(server: AppServer) -> None:
    command = [sys.executable, "-m", "paddock", "datasets", "show", b"gr\xfcn", "--url", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "'gr\\udcfcn' holds bytes that are not UTF-8" in done.stderr) == (1, True), done.stderr
