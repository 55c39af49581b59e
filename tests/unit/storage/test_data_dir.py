from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from paddock.errors import ConflictError
from paddock.storage.data_dir import DataDir, folder_name


def test_one_server_a_folder(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path / "data"), DataDir(tmp_path / "data")
    first.create()
    first.lock()
    with pytest.raises(ConflictError, match="Another Paddock server"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_the_folder_is_private(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")
    data_dir.create()
    assert stat.S_IMODE(data_dir.root.stat().st_mode) == 0o700


def test_an_id_is_never_a_path(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    for job_id in ("../../etc", "a/b", "x" * 256, "-rf"):
        assert data_dir.job_folder(job_id).parent == data_dir.root / "jobs"
        assert folder_name(job_id).isalnum()


@pytest.mark.parametrize("long_temporary_folder", [False, True])
def test_a_long_path_still_has_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_temporary_folder: bool
) -> None:
    if long_temporary_folder:
        (tmp_path / ("t" * 100)).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("t" * 100)))
    data_dir = DataDir(tmp_path / ("x" * 120))
    data_dir.create()
    socket = data_dir.engine_socket
    assert len(os.fsencode(socket)) < 108
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert DataDir(data_dir.root).engine_socket == socket
