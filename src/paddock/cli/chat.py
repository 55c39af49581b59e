"""`paddock chat`: ask a model, once or in a conversation."""

from __future__ import annotations

import sys
from typing import Any

import click

from paddock import terminal
from paddock.cli.options import json_option, speaks_to_server
from paddock.client import Client, ClientError

_LEAVING = ("/quit", "quit", "\\q")


@click.command()
@click.argument("message", required=False)
@click.option("--model", help="A registered model or a checkpoint's identifier (default: the first there is).")
@click.option("--system", help="A system message before the conversation.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer (default: the model's own).")
@click.option("--temperature", type=click.FloatRange(min=0), default=0, show_default=True, help="0 is greedy.")
@speaks_to_server
@json_option
def chat(
    client: Client,
    message: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float,
    as_json: bool,
) -> None:
    """Ask a model. Without MESSAGE it is a conversation: a line each, until Ctrl-D; what is piped in is one message.

    \b
    Examples:
      paddock chat --model small "What is 3 + 4?"
      paddock chat --model my-first:epoch-1"""
    if as_json and message is None and sys.stdin.isatty():
        raise click.UsageError("--json answers one message, and there is none.")
    body: dict[str, Any] = {"model": model or _first_model(client), "temperature": temperature}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    messages = [] if system is None else [{"role": "system", "content": system}]
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()
        if not message:
            raise click.UsageError("There is no message.")
    if message is None:
        _converse(client, body, messages)
        return
    body["messages"] = [*messages, _user(message)]
    if as_json:
        terminal.print_json(client.post("/v1/chat/completions", body))
        return
    _say(client, body)


def _converse(client: Client, body: dict[str, Any], messages: list[dict[str, str]]) -> None:
    """Answer line after line. A refusal does not end the conversation: the line is forgotten."""
    click.echo(f"{body['model']} listens. Ctrl-D ends.", err=True)
    while True:
        try:
            line = input(">>> ").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo(err=True)
            return
        if line in _LEAVING:
            return
        if not line:
            continue
        try:
            answer = _say(client, body | {"messages": [*messages, _user(line)]})
        except ClientError as error:
            click.echo(f"Error: {terminal.explain(error)}", err=True)
            continue
        except KeyboardInterrupt:  # the answer is no longer wanted
            continue
        messages += [_user(line), {"role": "assistant", "content": answer}]


def _say(client: Client, body: dict[str, Any]) -> str:
    """Print an answer as it is made, and a line's end behind it, or behind what came of it. Returns it."""
    text = ""
    try:
        for piece in client.chat(body):
            text += piece
            click.echo(piece, nl=False)
    except (ClientError, KeyboardInterrupt) as error:
        if text or isinstance(error, KeyboardInterrupt):
            click.echo()
        raise
    click.echo()
    return text


def _first_model(client: Client) -> str:
    found = [model["identifier"] for model in client.get("/v1/models")["data"] if model["model_type"] == "llm"]
    if not found:
        raise click.ClickException("The server has no language model. `paddock models register` gives it one.")
    first: str = found[0]
    return first


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
