"""`paddock configure`: the server that commands speak to where nothing names one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app_server import AppServer
from paddock.cli import main, remembered
from paddock.client import DEFAULT_URL


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "settings" / "client.yaml"
    monkeypatch.setenv("PADDOCK_CLIENT_FILE", str(file))
    monkeypatch.delenv("PADDOCK_URL", raising=False)
    return file


def paddock(*words: str, typed: str = "", code: int = 0, **environment: str) -> Result:
    result = CliRunner().invoke(main, words, input=typed, env=environment)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_commands_speak_to_the_server_that_was_kept(server: AppServer, file: Path) -> None:
    output = paddock("configure", "--url", f"{server.url}/", "--api-key", "").output
    assert output == f"Commands speak to {server.url} now. It is kept in {file}.\n"
    assert paddock("inspect", "health").output == f"{server.url}: OK\n"
    assert "127.0.0.1:9" in paddock("inspect", "health", code=1, PADDOCK_URL="http://127.0.0.1:9").output


def test_what_is_not_said_is_asked_for(server: AppServer, file: Path) -> None:
    output = paddock("configure", typed=f"here\n{server.url}\npdk_secret\n").output
    assert f"[{DEFAULT_URL}]" in output
    assert "write it as" in output
    assert "pdk_secret" not in output
    assert remembered.read() == (server.url, "pdk_secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_key_goes_to_its_own_server_alone() -> None:
    remembered.write(remembered.Server("http://127.0.0.1:1", "pdk_secret"))
    assert remembered.key_for("http://127.0.0.1:1/") == "pdk_secret"
    assert remembered.key_for("http://127.0.0.1:2") is None


def test_a_server_that_does_not_answer_is_kept_all_the_same() -> None:
    output = paddock("configure", "--url", "http://127.0.0.1:9", "--api-key", "").output
    assert "No server answers at http://127.0.0.1:9" in output
    assert remembered.url() == "http://127.0.0.1:9"


@pytest.mark.parametrize("content", ["[", "- a", "url: [", "api_key: x", "7"])
def test_a_broken_file_is_said_and_written_anew(server: AppServer, file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    assert "`paddock configure` writes it anew" in paddock("inspect", "health", code=1).output
    paddock("configure", typed=f"{server.url}\n\n")
    assert paddock("inspect", "health").output == f"{server.url}: OK\n"


@pytest.mark.parametrize("url", ["127.0.0.1:8321", "ftp://x", "http://", "http://[", ""])
def test_an_address_is_one(url: str) -> None:
    assert "write it as" in paddock("configure", "--url", url, "--api-key", "", code=2).output
