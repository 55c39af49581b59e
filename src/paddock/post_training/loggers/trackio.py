"""trackio: a database of runs below the loggers' folder, for `trackio show`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from paddock.post_training.loggers.logger import Ending, Point, Run
from paddock.post_training.loggers.sent_file import SentFile


class Trackio:
    """The run of this name in the project; a file beside says what it has."""

    def __init__(self, run: Run) -> None:
        folder = run.folder / "trackio"
        folder.mkdir(parents=True, exist_ok=True)
        # Read when the library is imported.
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio

        self._run = trackio.init(
            project=run.project.replace("/", "-"),
            name=f"{run.name}-{run.key[:8]}",
            config={**run.params, **{f"tag.{name}": value for name, value in run.tags.items()}},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._file = SentFile(folder / f"{run.key}.json")
        self.sent = self._file.read()

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(point.values, step=point.step)
        self._file.write(self.sent, points)

    def close(self, ending: Ending) -> None:
        self._run.finish()
