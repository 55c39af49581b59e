"""trackio: a database of runs below the loggers' folder, for `trackio show`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from paddock.post_training.loggers.logger import Ending, Point, Run


class Trackio:
    """The run of this name in the project; what is in its database counts."""

    def __init__(self, run: Run) -> None:
        folder = run.folder / "trackio"
        folder.mkdir(parents=True, exist_ok=True)
        # Read when the library is imported.
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        project, name = run.project.replace("/", "-"), f"{run.name}-{run.key[:8]}"
        self.sent: dict[str, int] = {}
        for point in SQLiteStorage.get_logs(project, name):
            for series in point.keys() - {"step", "timestamp"}:
                self.sent[series] = max(point["step"], self.sent.get(series, -1))
        self._run = trackio.init(
            project=project,
            name=name,
            config={**run.params, **{f"tag.{name}": value for name, value in run.tags.items()}},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(point.values, step=point.step)

    def close(self, ending: Ending) -> None:
        self._run.finish()
