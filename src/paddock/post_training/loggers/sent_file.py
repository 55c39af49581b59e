"""What a logger was sent, in a file, for those that cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.post_training.loggers.logger import Point


class SentFile:
    """The last step of each series, as JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        try:
            read: dict[str, int] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return read

    def write(self, sent: Mapping[str, int], points: Sequence[Point]) -> None:
        """Note that `points` were sent after what was `sent` before."""
        now = {**sent, **{name: point.step for point in points for name in point.values}}
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(now))
        unfinished.replace(self._path)
