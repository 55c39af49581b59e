"""TensorBoard: event files in a folder of the run's own."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.post_training.loggers.logger import Ending, Point, Run, readable_folder
from paddock.storage.data_dir import folder_name


class TensorBoard:
    """An event file of this attempt, beside those of earlier ones."""

    def __init__(self, run: Run) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard.writer import SummaryWriter

        project = readable_folder(run.project, folder_name(run.project))
        folder = run.folder / "tensorboard" / project / readable_folder(run.name, run.key)
        folder.mkdir(parents=True, exist_ok=True)
        # What is in the files counts: the last of them may lack what its process had not written yet.
        there = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        self.sent = {tag: there.Scalars(tag)[-1].step for tag in there.Tags()["scalars"]}
        self._writer = SummaryWriter(str(folder))
        if not self.sent:
            for name, values in (("tags", run.tags), ("parameters", run.params)):
                lines = [f"    {key}: {value}" for key, value in values.items()]
                self._writer.add_text(name, "\n".join(lines))

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.at)
        self._writer.flush()

    def close(self, ending: Ending) -> None:
        self._writer.close()
