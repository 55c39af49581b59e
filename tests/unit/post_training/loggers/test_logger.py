from __future__ import annotations

from paddock.post_training.loggers.logger import readable_folder


def test_a_folder_is_never_a_clients_path() -> None:
    assert readable_folder("../../etc/passwd", "0123456789") == "etc-passwd-01234567"
    assert readable_folder("Größe 7.1", "0123456789") == "Gr-e-7-1-01234567"
    assert readable_folder("…", "0123456789") == "01234567"
    assert len(readable_folder("a" * 256, "0123456789")) == 49
