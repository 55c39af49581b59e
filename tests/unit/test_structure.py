"""What may be imported where, and the documents that must keep up with the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "paddock"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# Parsed as this file is read: Python 3.11's parser stumbles over garbage of earlier tests that is collected meanwhile.
TREES = {module: ast.parse((PACKAGE / module).read_text()) for module in MODULES}

ALLOWED = {
    # FastAPI at the edge, SQL in the stores, tensors where the work is.
    "fastapi": r"server/.*|routing\.py|.*/\w*routes\.py",
    "starlette": r"server/.*|routing\.py|.*/\w*routes\.py",
    "sqlalchemy": (
        r"storage/.*|jobs/(states|progress)\.py|.*/\w*store\.py"
        r"|evaluation/(benchmarks|functions|results|registration|submission)\.py"
    ),
    "alembic": r"storage/.*",
    "torch": r"inference/(engine_process\.py|local_models/.*)|post_training/.*|quickstart/make_base_model\.py",
    "transformers": r"inference/(engine_process\.py|local_models/.*)|post_training/.*|quickstart/make_base_model\.py",
    "peft": r"inference/local_models/.*|post_training/.*",
    "sentence_transformers": r"inference/local_models/.*",
    "PIL": r"inference/local_models/images\.py",
    "pyarrow": r"datasets/.*",
    "mlflow": r"post_training/loggers/mlflow\.py",
    "tensorboard": r"post_training/loggers/tensorboard\.py",
    "trackio": r"post_training/loggers/trackio\.py",
    "wandb": r"post_training/loggers/wandb\.py",
    "optuna": r"post_training/study\.py",
    "click": r"cli/.*",
}


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("library", ALLOWED)
def test_a_library_stands_where_it_belongs(library: str) -> None:
    importers = [module for module in MODULES if library in _imports(module)]
    assert importers, f"nothing imports {library}: take it out of this table"
    assert [module for module in importers if not re.fullmatch(ALLOWED[library], module)] == []


def test_every_module_says_what_it_is() -> None:
    silent = [module for module in MODULES if ast.get_docstring(TREES[module]) is None]
    assert silent == []


def _architecture() -> str:
    return (ROOT / "docs" / "ARCHITECTURE.md").read_text()


def test_the_tree_in_the_architecture_names_every_module() -> None:
    tree = re.search(r"```text\nsrc/paddock/\n(.*?)```", _architecture(), re.DOTALL)
    assert tree is not None
    named: dict[str, str] = {}
    folder: list[str] = []
    for line in tree.group(1).splitlines():
        match = re.fullmatch(r"((?:  )+)(\S+)(?:\s+(.*))?", line)
        assert match is not None, line
        depth, name, phrase = len(match.group(1)) // 2, match.group(2), match.group(3)
        assert phrase, f"{name} has no phrase"
        folder[depth - 1 :] = [name.rstrip("/")]
        if not name.endswith("/"):
            named["/".join(folder)] = phrase
    expected = {module for module in MODULES if not module.endswith("__init__.py") and "/versions/" not in module}
    assert set(named) == expected


def test_the_walks_in_the_architecture_name_code_that_exists() -> None:
    references = re.findall(r"`([\w/]+\.py):(\w+(?:\.\w+)?)`", _architecture())
    assert len(references) >= 20
    missing = []
    for module, name in references:
        body: list[ast.stmt] = TREES[module].body
        for part in name.split("."):
            found = [
                n
                for n in body
                if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and n.name == part
            ]
            assigned = [
                n for n in body if isinstance(n, ast.Assign | ast.AnnAssign) and part in ast.unparse(n).split("=")[0]
            ]
            if not found and not assigned:
                missing.append(f"{module}:{name}")
                break
            body = found[0].body if found else []
    assert missing == []
