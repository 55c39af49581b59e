"""The commands against the real app on a real database. No worker runs: tests move the jobs themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app_server import AppServer
from paddock import wiring
from paddock.cli import main
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources

Invoke = Callable[..., Result]


@pytest.fixture
def resources(settings: Settings, tiny_llama: Path) -> Iterator[Resources]:
    resources = wiring.build(settings.model_copy(update={"model_roots": (tiny_llama,)}))
    yield resources
    resources.database.close()


@pytest.fixture
def server(resources: Resources) -> Iterator[AppServer]:
    with AppServer(create_app(resources, wake_worker=lambda: None)) as server:
        yield server


@pytest.fixture
def invoke(server: AppServer) -> Invoke:
    """Run `paddock WORDS…`; the exit code must be `code`."""

    def run(*words: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(
            main, [str(word) for word in words], env={"PADDOCK_URL": server.url, "COLUMNS": "200"}
        )
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def sums(invoke: Invoke, write_rows: Callable[..., Path]) -> str:
    """A benchmark on a dataset of the same id."""
    rows = write_rows(*({"question": f"{i} + 1", "answer": str(i + 1)} for i in range(8)), name="sums.jsonl")
    invoke("datasets", "register", "my/sums", "--purpose", "eval/question-answer", "--file", rows)
    invoke("benchmarks", "register", "my/sums", "--dataset", "my/sums", "--scoring", "basic::equality")
    return "my/sums"


@pytest.fixture
def tiny(invoke: Invoke, tiny_llama: Path) -> str:
    """A model that is registered."""
    invoke("models", "register", "tiny", "--path", tiny_llama)
    return "tiny"
