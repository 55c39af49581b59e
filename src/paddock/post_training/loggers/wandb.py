"""Weights & Biases: a run on its server where the settings have a key for it, else files to `wandb sync` later."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.post_training.loggers.logger import Ending, Point, Run
from paddock.post_training.loggers.sent_file import SentFile


class Wandb:
    """The run whose id is the job's key. What it has cannot be asked for offline, so a file beside it says so."""

    def __init__(self, run: Run) -> None:
        import wandb

        folder = run.folder / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        key = run.settings.wandb_api_key
        self._run = wandb.init(
            project=run.project.replace("/", "-"),
            name=run.name,
            id=run.key,
            resume="allow",
            mode="offline" if key is None else "online",
            dir=str(folder),
            tags=[f"{name}:{value}"[:64] for name, value in run.tags.items()],
            config=run.params,
            settings=wandb.Settings(
                api_key=key, base_url=run.settings.wandb_base_url, console="off", silent=True, x_disable_stats=True
            ),
        )
        self._file = SentFile(folder / f"{run.key}.json")
        self.sent = self._file.read()

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(point.values, step=point.step)
        self._file.write(self.sent, points)

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=1 if ending == "failed" else 0)
