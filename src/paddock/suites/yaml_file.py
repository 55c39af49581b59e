"""A stranger's YAML as plain data: no tags but `!function`, which is not executed, no aliases that unfold to more than can
be held, and includes from below the file's own folder only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paddock.suites.suite import SuiteError

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 100_000
"""Values of one file, each counted as often as it is referred to."""

MAX_DEPTH = 64
MAX_FILES = 32


@dataclass(frozen=True)
class Function:
    """Where the file has Python code called, by its name."""

    name: str

    def __str__(self) -> str:
        return f"!function {self.name}"


class _Loader(yaml.SafeLoader):
    """Plain data, and the one tag of lm-evaluation-harness."""


def _function(loader: _Loader, node: yaml.Node) -> Function:
    return Function(str(loader.construct_scalar(node)))  # type: ignore[arg-type]  # a node of another kind is its error


_Loader.add_constructor("!function", _function)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a file, over those that its `include` names. Raises `SuiteError`."""
    return _merged(path, path.resolve().parent, [])


def _merged(path: Path, root: Path, open_files: list[Path]) -> dict[str, Any]:
    """What is included first, the file's own keys over it. `open_files` are those that lead here."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise SuiteError(f"`include` names {path.name!r}, which is not below the folder of the file itself.")
    if resolved in open_files or len(open_files) >= MAX_FILES:
        raise SuiteError(f"`include` of {path.name!r} goes round in a circle.")
    own = _read_one(resolved)
    included = own.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        if not isinstance(name, str):
            raise SuiteError(f"`include` in {path.name!r} must be a path, or a list of them.")
        merged |= _merged(resolved.parent / name, root, [*open_files, resolved])
    return merged | own


def _read_one(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SuiteError(f"{path.name} has more than {MAX_BYTES // 2**20} MiB.")
        loader = _Loader(content)
        node = loader.get_single_node()
        _num_nodes(node, {}, 0)
        found = loader.construct_document(node)
    except OSError as error:
        raise SuiteError(f"{path.name} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SuiteError(f"{path.name} is no YAML of plain values: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise SuiteError(f"{path.name} holds no mapping.")
    return found


def _num_nodes(node: Any, counted: dict[int, int], depth: int) -> int:
    """How many values a node stands for. Before it is constructed: merging alone can unfold aliases without end."""
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deep, or refers to itself")
    if id(node) not in counted:
        children = node.value if isinstance(node, yaml.SequenceNode | yaml.MappingNode) else ()
        flat = [child for item in children for child in (item if isinstance(item, tuple) else (item,))]
        counted[id(node)] = 1 + sum(_num_nodes(child, counted, depth + 1) for child in flat)
        if counted[id(node)] > MAX_NODES:
            raise ValueError(f"its aliases unfold to more than {MAX_NODES:,} values")
    return counted[id(node)]
