"""What the logger notes beside its run. The library itself is not installed with the tests."""

from __future__ import annotations

from pathlib import Path

from paddock.post_training.loggers.wandb import read_sent, write_sent


def test_what_was_sent_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "sent.json"
    assert read_sent(file) == {}
    write_sent(file, {"loss": 2})
    write_sent(file, {"loss": 3, "lr": 2})
    assert read_sent(file) == {"loss": 3, "lr": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["sent.json"]
