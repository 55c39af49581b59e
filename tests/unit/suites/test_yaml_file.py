"""What of a stranger's YAML is read, and what is refused before it does harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.suites import yaml_file
from paddock.suites.suite import SuiteError
from paddock.suites.yaml_file import Function


def write(folder: Path, text: str, name: str = "task.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_included_keys_stand_below_the_files_own(tmp_path: Path) -> None:
    write(tmp_path, "a: 1\nb: 1\nc: 1\n", "shared/first.yaml")
    write(tmp_path, "include: first.yaml\nb: 2\nc: 2\n", "shared/second.yaml")
    path = write(tmp_path, "include: [shared/second.yaml]\nc: 3\n")
    assert yaml_file.read(path) == {"a": 1, "b": 2, "c": 3}


def test_functions_are_names(tmp_path: Path) -> None:
    found = yaml_file.read(write(tmp_path, "process_docs: !function utils.process\nlist: [!function x.y]\n"))
    assert found == {"process_docs": Function("utils.process"), "list": [Function("x.y")]}


def test_aliases_are_values(tmp_path: Path) -> None:
    assert yaml_file.read(write(tmp_path, "a: &x [1, 2]\nb: *x\n")) == {"a": [1, 2], "b": [1, 2]}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "unfold to more than"),
        (MERGES, "unfold to more than"),
        ("a: &a [*a]\n", "refers to itself"),
        ("a: " + "[" * 200 + "]" * 200, "nested too deep"),
        ("a: !!python/object/apply:os.system ['touch owned']\n", "no YAML of plain values"),
        ("a: !!python/name:os.system\n", "no YAML of plain values"),
        ("a: !include /etc/passwd\n", "no YAML of plain values"),
        ("- a\n- b\n", "holds no mapping"),
        ("a: [\n", "no YAML of plain values"),
        ("include: ../outside.yaml\n", "not below the folder"),
        ("include: /etc/hostname\n", "not below the folder"),
        ("include: link.yaml\n", "not below the folder"),
        ("include: task.yaml\n", "in a circle"),
        ("include: {a: b}\n", "must be a path"),
        ("include: gone.yaml\n", "gone.yaml cannot be read"),
        ("a: 2024-13-45\n", "no YAML of plain values"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "secret: 1\n", "outside.yaml")
    folder = tmp_path / "suite"
    path = write(folder, text)
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(SuiteError, match=message):
        yaml_file.read(path)
    assert not Path("owned").exists()


def test_a_file_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "MAX_BYTES", 10)
    with pytest.raises(SuiteError, match="more than"):
        yaml_file.read(write(tmp_path, "a: 12345678\n"))
