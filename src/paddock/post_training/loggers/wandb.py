"""Weights & Biases: a run on its server where the settings have a key for it, else files to `wandb sync` later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.post_training.loggers.logger import Ending, Point, Run


class Wandb:
    """The run whose id is the job's key.

    Offline it cannot be asked what it has, so a file beside it says what it had been sent before the last time: that may
    have been on its way. What is sent again after a kill, W&B drops, for its steps only grow."""

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
        self._file = folder / f"{run.key}.json"
        self.sent = read_sent(self._file)

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(point.values, step=point.step)
        write_sent(self._file, self.sent)

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=1 if ending == "failed" else 0)
        write_sent(self._file, self.sent)


def read_sent(file: Path) -> dict[str, int]:
    """The last step of each series, as `write_sent` has noted it."""
    return json.loads(file.read_text()) if file.exists() else {}


def write_sent(file: Path, sent: Mapping[str, int]) -> None:
    """Note what was sent, whole or not at all."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(sent))
    unfinished.replace(file)
