"""What the quickstart shows, line by line: steps, scores, curves, the summary, what to type next. Does nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from paddock import terminal
from paddock.client import JobUpdate
from paddock.quickstart.scores import Example, Score
from paddock.quickstart.surroundings import Program

_INDENT = 3
_CURVE_WIDTH = 26
_TRAINING_LINE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
_EXAM_LINE = '{"question": "…", "answer": "…"}'
_HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


class Screen:
    """A calm page: numbered steps, everything else set in below them."""

    def __init__(self) -> None:
        self._console = terminal.out()
        self._num_steps = 0

    def title(self, text: str, explanation: str) -> None:
        self._console.print(Text(text, style="bold"))
        self._console.print(explanation)

    def step(self, text: str) -> None:
        self._num_steps += 1
        self._console.print()
        self._console.print(Text(f"{self._num_steps}  {text}", style="bold"))

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Padding(Text(text, style=style), (0, 0, 0, _INDENT), expand=False))

    def error(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="red"), soft_wrap=True)

    def command(self, text: str) -> None:
        """Text to be copied: never wrapped, never shortened."""
        for line in text.splitlines():
            self._console.print(Text(" " * (_INDENT + 2) + line, style="cyan"), soft_wrap=True)

    def columns(self, *rows: Sequence[str], right: Sequence[int] = (), header: Sequence[str] = ()) -> None:
        """Rows in aligned columns; those at the indices in `right` are aligned to the right."""
        width = max(len(row) for row in rows)
        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header), header_style="dim")
        for index in range(width):
            name = header[index] if index < len(header) else ""
            grid.add_column(name, justify="right" if index in right else "left")
        for row in rows:
            grid.add_row(*(Text(text) for text in row))
        self._console.print(Padding(grid, (0, 0, 0, _INDENT), expand=False))

    def watch(self, updates: Iterable[JobUpdate], label: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Follow a job: a live bar on a terminal, a few lines elsewhere."""
        return terminal.watch(updates, self._console, " " * _INDENT + label)

    def scores(self, scores: dict[str, Score]) -> None:
        """One line for each exam: share, interval, how many rows stand behind it."""
        self.columns(
            *(
                (name, terminal.percent(s.accuracy), f"95 % interval {shown_interval(s)}", _counts(s))
                for name, s in scores.items()
            ),
            right=(1,),
        )

    def curve(self, name: str, values: list[float], remark: str) -> None:
        """First value, the curve, last value."""
        if values:
            self.line(f"{name}  {values[0]:.4f} {terminal.sparkline(values, _CURVE_WIDTH)} {values[-1]:.4f}  {remark}")

    def examples(self, examples: Sequence[Example]) -> None:
        self._console.print()
        self.columns(
            *((e.question, e.right, _shown(e.before), _shown(e.after)) for e in examples),
            header=("Question", "Right", "Base model", "Tuned"),
        )

    def summary(self, models: dict[str, dict[str, Score]]) -> None:
        """Each model's score on each exam, with its interval."""
        self._console.print()
        self._console.print(Text("Summary", style="bold"))
        exams = list(next(iter(models.values())))
        rows = []
        for model, scores in models.items():
            cells = [(terminal.percent(scores[exam].accuracy), shown_interval(scores[exam])) for exam in exams]
            rows.append([model, *(text for pair in cells for text in pair)])
        header = ["", *(title for exam in exams for title in (exam, "95 % interval"))]
        self.columns(*rows, header=header, right=[1 + 2 * i for i in range(len(exams))])

    def next_steps(self, program: Program, data_dir: str | None, exam: str, model: str) -> None:
        """How to go on: with what this run made, if its `data_dir` stays, and with rows and a model of one's own."""
        self._console.print()
        self._console.print(Text("What to type next", style="bold"))
        name, setup = program
        if data_dir is None:
            again = [("Do this again and keep its state:", [*setup, f"{name} quickstart --data-dir my-quickstart"])]
        else:
            again = [
                ("Serve this data and the tuned model:", [*setup, serve_again(name, data_dir)]),
                ("Judge it again, from a second terminal:", [*setup, *judge_again(name, exam, model)]),
            ]
        for sentence, commands in (
            *again,
            ("The same with rows of your own and a model of the hub:", with_own_rows(name)),
            ("A line of train.jsonl, and one of exam.jsonl:", [_TRAINING_LINE, _EXAM_LINE]),
        ):
            self._console.print()
            self.line(sentence)
            for command in commands:
                self.command(command)


def serve_again(program: str, data_dir: str) -> str:
    """How to serve what a run made; a command as it is typed."""
    return f"{program} serve --data-dir {shlex.quote(data_dir)}"


def judge_again(program: str, exam: str, model: str) -> list[str]:
    """How to ask for what a run made; commands as they are typed."""
    return [f"{program} models list", f"{program} eval run {exam} --model {model}"]


def with_own_rows(program: str) -> list[str]:
    """The same loop on rows of one's own and a model of the hub; commands as they are typed."""
    return [
        f"PADDOCK_HUB_MODELS='[{_HUB_MODEL}]' {program} serve",
        f"{program} models register small --hub {_HUB_MODEL}",
        f"{program} datasets register my-rows --purpose post-training/messages \\\n  --file train.jsonl",
        f"{program} datasets register my-exam --purpose eval/question-answer \\\n  --file exam.jsonl",
        f"{program} benchmarks register my-bench --dataset my-exam \\\n  --scoring basic::equality",
        f"{program} eval run my-bench --model small",
        f"{program} train sft --model small --dataset my-rows --job-id my-first",
        f"{program} eval run my-bench --model my-first:epoch-1",
    ]


def shown_interval(score: Score) -> str:
    return terminal.interval(list(score.ci95), as_percent=True)


def _counts(score: Score) -> str:
    return f"n {score.num_scored}, failed {score.num_failed}"


def _shown(answer: str | None) -> str:
    """A model's answer in one line, its end cut where it is long."""
    if answer is None:
        return "(failed)"
    line = " ".join(answer.split())
    return line if len(line) <= 16 else line[:15] + "…"
