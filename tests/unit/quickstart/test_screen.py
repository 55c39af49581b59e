"""What the quickstart tells people to type is what the command line takes; and its page holds in 80 columns."""

from __future__ import annotations

import shlex

import click
import pytest

from paddock.cli import main
from paddock.quickstart.scores import Example, Score
from paddock.quickstart.screen import Screen, judge_again, serve_again, with_own_rows
from paddock.quickstart.surroundings import Program
from paddock.settings import Settings, load

COMMANDS = [
    serve_again("paddock", "/tmp/some where"),
    *judge_again("paddock", "quickstart/exam", "quickstart-sft-1:epoch-3"),
    *with_own_rows("paddock"),
]


def words_of(command: str) -> list[str]:
    """A command as a shell splits it; a backslash at a line's end goes on with the next."""
    return shlex.split(command.replace("\\\n", ""))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_taken_as_they_are_printed(command: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train.jsonl", "exam.jsonl"):
        (tmp_path / name).touch()
    words = words_of(command)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    assert words.pop(0) == "paddock"
    here: click.Command = main
    while isinstance(here, click.Group):
        name, here, words = here.resolve_command(click.Context(here), words)
    here.make_context(here.name, words)  # parses and checks each option, and calls nothing


def test_the_setting_in_the_commands_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (assignment,) = [words[0] for words in map(words_of, COMMANDS) if "=" in words[0]]
    monkeypatch.setenv(*assignment.split("=", 1))
    assert load().hub_models == ("HuggingFaceTB/SmolLM2-135M-Instruct",)
    assert "hub_models" in Settings.model_fields


def test_the_page_holds_in_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    before = Score(0.0, (0.0, 0.0157), 240, 0, ("2008-11-12",))
    after = Score(0.9958, (0.9768, 0.9993), 239, 1, ("2043-09-12",))
    screen = Screen()
    screen.step("A step")
    screen.scores({"exam": before, "known forms": after})
    screen.curve("loss", [2.0 / (i + 1) for i in range(180)], "180 steps in 38 s")
    screen.examples([Example("What is 30.XII.'43 in ISO form?", "2043-12-30", "a long answer\nof two lines", None)])
    both = {"exam": before, "known forms": after}
    screen.summary({"base": both, "after LoRA": dict.fromkeys(both, after)})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [" ".join(line.split()) for line in lines]
    assert "exam 0.0 % 95 % interval 0.0 to 1.6 n 240, failed 0" in shown
    assert "What is 30.XII.'43 in ISO form? 2043-12-30 a long answer o… (failed)" in shown
    assert "base 0.0 % 0.0 to 1.6 99.6 % 97.7 to 99.9" in shown
    assert "after LoRA 99.6 % 97.7 to 99.9 99.6 % 97.7 to 99.9" in shown


def test_commands_are_never_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    program = Program("paddock", ("source .venv/bin/activate",))
    Screen().next_steps(
        program, "/a/rather/long/path/to/a/data/directory", "quickstart/exam", "quickstart-sft-1:epoch-3"
    )
    shown = "".join(line.strip() + "\n" for line in capsys.readouterr().out.splitlines())
    for command in with_own_rows("paddock"):
        assert "".join(line.strip() + "\n" for line in command.splitlines()) in shown
    assert "source .venv/bin/activate\npaddock serve --data-dir /a/rather/long/path/to/a/data/directory\n" in shown


def test_a_folder_that_is_gone_is_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().next_steps(Program("paddock", ()), None, "quickstart/exam", "quickstart-sft-1:epoch-3")
    shown = capsys.readouterr().out
    assert "paddock quickstart --data-dir my-quickstart\n" in shown
    assert "quickstart-sft-1" not in shown


def test_commands_fit_into_80_columns() -> None:
    lines = [line for command in with_own_rows("paddock") for line in command.splitlines()]
    assert max(map(len, lines)) <= 75
