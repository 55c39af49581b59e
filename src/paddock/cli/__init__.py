"""The command line, one file a command. All but `serve` and those that processes are started with speak HTTP to a server."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from paddock import __version__
from paddock.cli import log_noise

COMMANDS = {
    "serve": "paddock.cli.serve:serve",
    "quickstart": "paddock.cli.quickstart:quickstart",
    "configure": "paddock.cli.configure:configure",
    "datasets": "paddock.cli.datasets:datasets",
    "models": "paddock.cli.models:models",
    "benchmarks": "paddock.cli.benchmarks:benchmarks",
    "eval": "paddock.cli.eval:eval_",
    "scoring": "paddock.cli.scoring:scoring",
    "train": "paddock.cli.train:train",
    "chat": "paddock.cli.chat:chat",
    "rerank": "paddock.cli.rerank:rerank",
    "jobs": "paddock.cli.jobs:jobs",
    "backup": "paddock.cli.backup:backup",
    "providers": "paddock.cli.providers:providers",
    "inspect": "paddock.cli.inspect:inspect",
    "keys": "paddock.cli.keys:keys",
    "run-job": "paddock.cli.processes:run_job",
    "fork-jobs": "paddock.cli.processes:fork_jobs",
    "train-worker": "paddock.cli.processes:train_worker",
    "run-engine": "paddock.cli.processes:run_engine",
}
"""Each command and where it stands; it is imported when it is called, so that `serve` pays for itself alone."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: Any = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="paddock")
def main() -> None:
    """Paddock trains, judges and ranks models, behind the Llama Stack experimental APIs."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal may lack the characters of an id or an answer: those are shown by their numbers.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log_noise.leave_out()
