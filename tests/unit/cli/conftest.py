"""The commands against the real app on a real database. No worker runs: tests move the jobs themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from app_server import AppServer
from model_server import ModelServer, last_user_text
from paddock import wiring
from paddock.cli import main
from paddock.server.app import create_app
from paddock.settings import Settings
from paddock.wiring import Resources

Invoke = Callable[..., Result]


def answer(body: dict[str, Any]) -> str | web.Response:
    """A model that can add 1 to numbers below 6, and one that can do so below 4. Both refuse where they are asked to."""
    text = last_user_text(body)
    if text == "refuse":
        return web.json_response({"error": {"message": "No."}}, status=400)
    number = int(text.split()[0]) if text[0].isdecimal() else 0
    return str(number + 1) if number < (4 if body["model"] == "adder-2" else 6) else "many"


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer(answer) as server:
        yield server


@pytest.fixture
def resources(settings: Settings, tiny_llama: Path, model_server: ModelServer) -> Iterator[Resources]:
    config = {"base_url": model_server.base_url}
    provider = {"provider_id": "lab", "provider_type": "remote::openai", "config": config}
    more = {"providers": [provider], "model_roots": [tiny_llama]}
    resources = wiring.build(Settings.model_validate(settings.model_dump() | more))
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


@pytest.fixture
def adder(invoke: Invoke) -> str:
    """A remote model that is registered."""
    invoke("models", "register", "adder", "--provider", "lab", "--name", "adder-1")
    return "adder"
