"""Options and manners that commands share: which server, how errors are shown, how a job is followed."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

import click

from paddock import terminal
from paddock.cli import remembered
from paddock.client import DEFAULT_URL, Client, ClientError
from paddock.errors import PaddockError

P = ParamSpec("P")

_EXIT_INTERRUPTED = 130
_UNAUTHORIZED = 401


def speaks_to_server(command: Callable[Concatenate[Client, P], None]) -> Callable[P, None]:
    """Give a command `--url`, `--api-key` and, as its first argument, a client of that server; its errors become one
    message."""

    @click.option(
        "--url",
        envvar="PADDOCK_URL",
        default=remembered.url,
        show_default=f"what `paddock configure` kept, else {DEFAULT_URL}",
        help="The server, or set PADDOCK_URL.",
    )
    @click.option(
        "--api-key",
        envvar="PADDOCK_API_KEY",
        callback=printable_key,
        help="The key for the server, better set as PADDOCK_API_KEY: other users of this machine see options.",
    )
    @functools.wraps(command)
    def with_client(*args: P.args, **kwargs: P.kwargs) -> None:
        url, given_key = str(kwargs.pop("url")), kwargs.pop("api_key")
        api_key = remembered.key_for(url) if given_key is None else str(given_key)
        with Client(url, api_key=api_key) as client, told_in_words():
            try:
                command(client, *args, **kwargs)
            except ClientError as error:
                hint = (
                    "\nSet PADDOCK_API_KEY to a key of this server, or `paddock configure` keeps one."
                    if error.status == _UNAUTHORIZED
                    else ""
                )
                raise click.ClickException(terminal.explain(error) + hint) from None
            except KeyboardInterrupt:
                raise SystemExit(_EXIT_INTERRUPTED) from None

    return with_client


@contextlib.contextmanager
def told_in_words() -> Iterator[None]:
    """What is refused on this machine, and what its files do not let be done, becomes one message."""
    try:
        yield
    except PaddockError as error:
        raise click.ClickException(error.detail) from None
    except UnicodeEncodeError as error:
        word = ascii(error.object)
        raise click.ClickException(f"{word} holds bytes that are not UTF-8. Is the locale right (LC_ALL)?") from None
    except BrokenPipeError:  # nobody reads on: nothing went wrong
        raise
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None


def printable_key(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that is a key: None where it is empty."""
    if value and not (value.isascii() and value.isprintable()):
        raise click.BadParameter("a key is printable ASCII")  # which does not repeat it
    return value or None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON.")

follow_option = click.option(
    "--follow/--no-follow",
    "follows",
    default=True,
    show_default=True,
    help="Wait for the job, with its progress, or leave it.",
)


def follow_job(client: Client, job_id: str, label: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Show a job until it has ended; ends this process with code 1 unless it completed. Ctrl-C leaves the job alone.

    Returns the job's final record and the points of its metrics."""
    console = terminal.err()
    try:
        job, points = terminal.watch(client.follow(job_id), console, label)
    except KeyboardInterrupt:
        console.print(f"\nThe job {job_id} goes on. Follow it with  {command_line(client, 'jobs', 'watch', job_id)}")
        console.print(f"                         or end it with  {command_line(client, 'jobs', 'cancel', job_id)}")
        raise SystemExit(_EXIT_INTERRUPTED) from None
    if job["status"] != "completed":
        reason = f": {job['error']}" if job["error"] else "."
        hint = "\nThe same request may go better another time." if job["retryable"] else ""
        tail = f"\nThe last lines of its log:\n{job['log_tail']}" if job["log_tail"] else ""
        raise click.ClickException(f"The job {job_id} is {job['status']}{reason}{hint}{tail}")
    return job, points


def command_line(client: Client, *words: str) -> str:
    """A command for the reader to type, to the same server."""
    from_environment = click.get_current_context().get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    url = ["--url", client.url] if from_environment else []
    return shlex.join(["paddock", *words, *url])
