"""Installs each version of the official clients that `official-clients.txt` pins into a folder of its own, below the
running interpreter's environment. Run by `make setup` and `make test`; a folder that is there is left as it is.

What the Python clients need stands in `requirements-client.txt`: of their own lists half is for their command line.
The TypeScript client needs node; where there is none, or npm's registry is out of reach, this says so and goes on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(sys.prefix) / "clients"
_PINS = Path(__file__).parents[1] / "official-clients.txt"
_PACKAGE = "llama-stack-client"
_PATIENCE_SECONDS = 300


def pinned(kind: str) -> list[str]:
    """The pinned versions of one kind, `pip` or `npm`."""
    return [version for found, version in _pins() if found == kind]


def folder(kind: str, version: str) -> Path:
    """Where a version is, or would be, installed."""
    return FOLDER / f"{kind}-{version}"


def _pins() -> Iterator[tuple[str, str]]:
    for line in _PINS.read_text().splitlines():
        if line and not line.startswith("#"):
            kind, version = line.split()
            yield kind, version


def _install(kind: str, version: str, target: Path) -> str | None:
    """Install one version; returns why it could not be done, if so."""
    if kind == "npm":
        npm = shutil.which("npm")
        if npm is None:
            return "there is no npm on this machine"
        options = ["--no-audit", "--no-fund", "--no-save", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        command = [npm, "install", *options, f"--prefix={target}", f"{_PACKAGE}@{version}"]
    else:
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        # They declare Python 3.12 and run on 3.11.
        command = [*pip, "--no-deps", "--ignore-requires-python", f"--target={target}", f"{_PACKAGE}=={version}"]
    try:
        code = subprocess.run(command, check=False, timeout=_PATIENCE_SECONDS, stdout=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return f"{kind} took longer than {_PATIENCE_SECONDS} seconds"
    return None if code == 0 else f"{kind} ended with code {code}, its reason is above"


def main() -> int:
    """Install what is missing. Python's clients must succeed, like everything else that `make setup` installs."""
    code = 0
    for kind, version in _pins():
        target = folder(kind, version)
        if target.exists():
            continue
        # Under another name until it is whole: what was broken off is begun again.
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        problem = _install(kind, version, partial)
        if problem is None:
            partial.rename(target)
            continue
        shutil.rmtree(partial, ignore_errors=True)
        print(f"\n*** {kind}'s {_PACKAGE} {version} is not installed: {problem}.", file=sys.stderr)
        if kind == "npm":
            print(
                "*** Its tests will be skipped; everything else works. The next `make test` tries again.",
                file=sys.stderr,
            )
        else:
            print("*** Is the package index in reach? `make setup` again goes on where it was.", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
