"""`docs/errors.md` lists every error: each class of `errors.py` with its status, and the sentences it is raised with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock import errors
from paddock.errors import LostLeaseError, PaddockError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "paddock"
PAGE = (ROOT / "docs" / "errors.md").read_text()

CLASSES = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, PaddockError) and error is not LostLeaseError  # never answered
]

_OF_BODIES = ("wire.py", "strict_json.py", "server/frame.py", "datasets/bodies.py")
"""Where refusals are made that any body may meet; those of single fields stand in the slices' pages."""

_RAISED = {error.__name__ for error in CLASSES} - {"PaddockError", "InvalidRequestError"} | {
    "_BusyError",
    "_BrokenError",
}
_RAISED_OF_BODIES = {"InvalidRequestError", "FieldError", "ValueError", "_refuse"}


def _sentence(node: ast.expr) -> str | None:
    """What a literal says, with `…` for what is filled in; None for what is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    return None


def _sentences(path: Path, names: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            for argument in node.args:
                sentence = _sentence(argument)
                if sentence is not None and " " in sentence and not sentence.startswith("…: "):
                    yield sentence


def _raised() -> dict[str, str]:
    """Sentence → the module that raises it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith(("cli/", "quickstart/", "client")):
            names = _RAISED | (_RAISED_OF_BODIES if module in _OF_BODIES else set())
            found |= dict.fromkeys(_sentences(path, names), module)
    return found


RAISED = _raised()
DOCUMENTED = [
    line.split(" | ")[0].removeprefix("| ") for line in PAGE.partition("\n## ")[2].splitlines() if " | " in line
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_its_status(error: type[PaddockError]) -> None:
    assert f"| {error.status} | {error.title} |" in PAGE


def test_every_sentence_is_listed() -> None:
    assert len(RAISED) > 50
    assert {sentence: module for sentence, module in RAISED.items() if sentence not in DOCUMENTED} == {}


def test_nothing_is_listed_that_is_never_said() -> None:
    said = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    unsaid = [
        sentence
        for sentence in DOCUMENTED
        if sentence not in RAISED and sentence != "says" and max(sentence.split("…"), key=len) not in said
    ]
    assert unsaid == []
