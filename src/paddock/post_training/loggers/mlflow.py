"""MLflow: a run on the tracking server that the settings name, or in files below the loggers' folder."""

from __future__ import annotations

import os
from collections.abc import Sequence

from paddock.post_training.loggers.logger import Ending, Point, Run

_JOB_TAG = "paddock_job"
_MAX_METRICS = 500  # a request takes 1,000
_MAX_PARAMS = 100
_MAX_TEXT = 500

_STATUSES = {"completed": "FINISHED", "failed": "FAILED"}


class MLflow:
    """The run that bears the job's tag, whichever attempt began it."""

    def __init__(self, run: Run) -> None:
        # A server that is away is asked again by the mirror, later; not for minutes by the library.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        uri = run.settings.mlflow_tracking_uri or (run.folder / "mlflow").as_uri()
        if uri.startswith("file:"):
            # Files are what this server asked for; the library would rather have a database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(run.project)
        experiment_id = self._client.create_experiment(run.project) if experiment is None else experiment.experiment_id
        found = self._client.search_runs([experiment_id], filter_string=f"tags.{_JOB_TAG} = '{run.key}'")
        self.sent: dict[str, int] = {}
        if found:
            self._run_id = found[0].info.run_id
            for name in found[0].data.metrics:
                history = self._client.get_metric_history(self._run_id, name)
                self.sent[name] = max(metric.step for metric in history)
            self._client.update_run(self._run_id, status="RUNNING")
            return
        tags = {**run.tags, _JOB_TAG: run.key}
        self._run_id = self._client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id
        from mlflow.entities import Param

        params = [Param(name, str(value)[:_MAX_TEXT]) for name, value in run.params.items()]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + _MAX_PARAMS])

    def send(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.at * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MAX_METRICS])

    def close(self, ending: Ending) -> None:
        if ending != "stopped":
            self._client.set_terminated(self._run_id, _STATUSES[ending])
