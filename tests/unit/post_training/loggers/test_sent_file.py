from __future__ import annotations

from pathlib import Path

from paddock.post_training.loggers.logger import Point, readable_folder
from paddock.post_training.loggers.sent_file import SentFile


def test_it_holds_the_last_step_of_each_series(tmp_path: Path) -> None:
    file = SentFile(tmp_path / "sent.json")
    assert file.read() == {}
    file.write({}, [Point(1, 0.0, {"loss": 3.0}), Point(2, 0.0, {"loss": 2.0, "lr": 0.1})])
    assert file.read() == {"loss": 2, "lr": 2}
    file.write(file.read(), [Point(3, 0.0, {"loss": 1.0})])
    assert SentFile(tmp_path / "sent.json").read() == {"loss": 3, "lr": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["sent.json"]


def test_a_folder_is_never_a_clients_path() -> None:
    assert readable_folder("../../etc/passwd", "0123456789") == "etc-passwd-01234567"
    assert readable_folder("Größe 7.1", "0123456789") == "Gr-e-7-1-01234567"
    assert readable_folder("…", "0123456789") == "01234567"
    assert len(readable_folder("a" * 256, "0123456789")) == 49
