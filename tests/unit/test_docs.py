"""Documents that cannot rot: a command or a scoring function without a word in them fails here."""

from __future__ import annotations

import re
from pathlib import Path

import click

import install_clients
from paddock.cli import COMMANDS, main
from paddock.evaluation.scoring import SCORING_FUNCTIONS

ROOT = Path(__file__).parents[2]


def test_every_scoring_function_is_documented() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text()
    assert [name for name in SCORING_FUNCTIONS if f"`{name}`" not in text] == []


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    visible = [name for name in COMMANDS if not main.get_command(None, name).hidden]  # type: ignore[union-attr,arg-type]
    assert [name for name in visible if not re.search(rf"\b{name}\b", text)] == []


def test_every_command_has_its_row() -> None:
    rows = re.findall(r"^\| `paddock ([\w -]+)` \| \S", (ROOT / "docs" / "command-line.md").read_text(), re.MULTILINE)
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in COMMANDS}
    expected = []
    for name, command in commands.items():
        if isinstance(command, click.Group):
            expected += [f"{name} {word}" for word in command.commands]
        elif command is not None and not command.hidden:
            expected.append(name)
    assert sorted(rows) == sorted(expected)


def test_every_tested_client_is_named() -> None:
    text = (ROOT / "docs" / "clients.md").read_text()
    versions = install_clients.pinned("pip") + install_clients.pinned("npm")
    assert len(versions) >= 5
    assert [version for version in versions if version not in text] == []


def test_links_lead_somewhere() -> None:
    dead = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.name}: {target}")
    assert dead == []
