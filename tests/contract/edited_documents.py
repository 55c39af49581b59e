"""Generates `/openapi.json` from edited sources: a script that `test_openapi.py` runs.

Reads a list of `[name, file, text, what it becomes]` from its standard input, and writes a file `NAME.json` for each edit
into the folder that it is given. All libraries are imported once; each edit then has a process of its own, in which the
package is imported anew.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any


class Nothing:
    """Resources as far as routes are made of them."""

    def __init__(self) -> None:
        from paddock.settings import Settings

        self.settings = Settings()

    def __getattr__(self, name: str) -> None:
        return None


def document() -> dict[str, Any]:
    """The document of the package as it is imported now."""
    from paddock.server.app import create_app

    made: dict[str, Any] = create_app(Nothing(), wake_worker=lambda: None).openapi()  # type: ignore[arg-type]
    return made


def edit(file: str, text: str, becomes: str) -> None:
    """From now on `file` of the package is imported with `text` replaced; it stays as it is on disk."""

    class Edited(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType | None:
            if not self.path.endswith(f"/paddock/{file}"):
                return super().get_code(fullname)
            source = Path(self.path).read_text()
            assert text in source, f"{file} has no {text!r} to be changed"
            return compile(source.replace(text, becomes), self.path, "exec")

    sys.path_hooks.insert(0, FileFinder.path_hook((Edited, [".py"])))
    sys.path_importer_cache.clear()


def main() -> None:
    edits, folder = json.load(sys.stdin), Path(sys.argv[1])
    document()
    for module in [name for name in sys.modules if name.partition(".")[0] == "paddock"]:
        del sys.modules[module]
    for name, *change in edits:
        child = os.fork()
        if child == 0:
            edit(*change)
            (folder / f"{name}.json").write_text(json.dumps(document()))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
