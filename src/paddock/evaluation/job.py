"""An evaluation as a job: resumable row by row, every generation and score durable soon after it is there.

A job that starts again goes on with what is not stored: a row's model or judge is not asked again once its answer is. A
call in flight when the process is killed may be made twice; it is never recorded twice. A row is not failed by a model
that is away: it is left for a later attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from paddock.datasets.store import DatasetStore
from paddock.errors import BackendAwayError, BackendError, BackendTimeoutError, PaddockError
from paddock.evaluation import calibration, plan, prompts, result_store
from paddock.evaluation.calls import Leaves
from paddock.evaluation.evaluate import Todo, evaluate
from paddock.evaluation.generation_store import GenerationCache
from paddock.evaluation.plan import Plan
from paddock.evaluation.result_store import RowResult, StoredRow
from paddock.evaluation.store import EvaluationStore
from paddock.inference.inference import Inference
from paddock.jobs.progress import Progress
from paddock.wire import from_json

_CHUNK_ROWS = 500
"""Rows that are read at once, and that at most wait in memory for their turn."""

_MAX_WAITING_RESULTS = 2000
_BATCH_RESULTS = 500
_GATHER_SECONDS = 0.05
"""Results are stored in batches: one transaction for what came within this time."""

_UNIT = "rows"


def run(
    progress: Progress,
    datasets: DatasetStore,
    evaluation: EvaluationStore,
    inference: Inference,
    *,
    is_last_attempt: bool,
) -> None:
    """Do the job that `progress` stands for, or what is left of it. Raises `StopRequestedError` when it was asked to
    stop and everything in flight is stored, and `PaddockError` when a model is away, or answers nothing at all.

    `is_last_attempt`: the job is not put off again. What may be a row's own doing then counts as such: that a server which
    has answered others breaks off, is late or answers nonsense."""

    def leaves(error: PaddockError, is_proven: bool) -> bool:
        if isinstance(error, BackendAwayError):
            return True
        return isinstance(error, BackendError | BackendTimeoutError) and not (is_last_attempt and is_proven)

    asyncio.run(_run(progress, datasets, evaluation, inference, leaves))
    progress.check_stop()


async def _run(
    progress: Progress, datasets: DatasetStore, evaluation: EvaluationStore, inference: Inference, leaves: Leaves
) -> None:
    resolved = plan.from_json(progress.job.request["plan"])
    recorder = _Recorder(progress, evaluation.generation_cache)
    evaluation.generation_cache.prune()
    recorder.report(now=True)
    proven = _proven_models(progress.job.job_id, resolved, evaluation)
    todos = _todos(progress, datasets, evaluation, resolved, recorder)
    recording = asyncio.create_task(recorder.run())
    try:
        await evaluate(todos, resolved, inference, recorder.record, proven=proven, leaves=leaves)
    finally:
        # Also when a model is given up on: what was found out before is kept.
        await recorder.finish()
        await recording
        recorder.report(now=True)
        await inference.close()


def _todos(
    progress: Progress, datasets: DatasetStore, evaluation: EvaluationStore, resolved: Plan, recorder: _Recorder
) -> Iterator[Todo]:
    """What is left to do, in the order of rows, until the process is asked to stop."""
    job = progress.job
    version = job.reads_dataset(job.request["dataset_id"])
    num_rows, n = plan.num_rows(job), resolved.num_samples
    num_at_once = max(_CHUNK_ROWS // n, 1)
    function_ids = resolved.function_ids
    # One query: of a long job that goes on near its end, each chunk's own would take a while.
    num_scores = evaluation.results.num_scores(job.job_id, function_ids, num_rows * n, num_at_once * n)
    for chunk, start in enumerate(range(0, num_rows, num_at_once)):
        end = min(start + num_at_once, num_rows)
        if num_scores.get(chunk) == (end - start) * n * len(function_ids):
            recorder.num_done_before += (end - start) * n
            continue
        known = evaluation.results.known(job.job_id, function_ids, start * n, end * n)
        recorder.num_done_before += sum(len(row.scored_by) == len(function_ids) for row in known.values())
        rows = list(datasets.read(version, start, end - start))
        todos = [
            _todo(row_index * n + sample, row, known.get(row_index * n + sample), resolved)
            for row_index, row in enumerate(rows, start)
            for sample in range(n)
        ]
        for todo in recorder.recall(todos, resolved):
            if progress.should_stop:
                return
            if todo.function_ids:
                yield todo
    if calibration.KEY in job.request:
        yield from _calibration_todos(progress, datasets, evaluation, resolved, recorder)


def _calibration_todos(
    progress: Progress, datasets: DatasetStore, evaluation: EvaluationStore, resolved: Plan, recorder: _Recorder
) -> Iterator[Todo]:
    """The labelled answers that the judges have not judged yet; their row numbers follow those of the evaluation."""
    job = progress.job
    judges = [run.function_id for run in resolved.functions if run.judge is not None]
    first = plan.num_results(job)
    known = evaluation.results.known(job.job_id, judges, first, first + job.request[calibration.KEY]["num_rows"])
    version = job.reads_dataset(job.request[calibration.KEY]["dataset_id"])
    for index, row in enumerate(datasets.read(version), first):
        if progress.should_stop:
            return
        scored_by = known[index].scored_by if index in known else ()
        left = [function_id for function_id in judges if function_id not in scored_by]
        if left:
            recorder.labels[index] = calibration.label(row)
            yield Todo(index, row, {"generated_answer": prompts.generated_answer(row)}, left)
        else:
            recorder.num_done_before += 1


def _todo(index: int, row: dict[str, object], known: StoredRow | None, resolved: Plan) -> Todo:
    if known is None:
        return Todo(index, row, None, resolved.function_ids)
    assert known.generation_json is not None, "a score is stored after its generation"
    left = [function_id for function_id in resolved.function_ids if function_id not in known.scored_by]
    return Todo(index, row, from_json(known.generation_json), left)


def _proven_models(job_id: str, resolved: Plan, evaluation: EvaluationStore) -> Sequence[str]:
    """The models that answered in an earlier attempt at the job."""
    assert resolved.candidate is not None
    proven = [resolved.candidate.model.model_id] if evaluation.results.has_answer(job_id) else []
    for run in resolved.functions:
        if run.models and evaluation.results.has_score(job_id, run.function_id):
            proven += [model.model_id for model in run.models]
    return proven


class _Recorder:
    """Stores results in batches, beside the event loop, while more are on their way; full, it holds them back."""

    def __init__(self, progress: Progress, cache: GenerationCache) -> None:
        self._progress = progress
        self._cache = cache
        self._keys: dict[int, str] = {}
        """Under which keys of the cache generations go that are being asked for."""
        self._waiting: asyncio.Queue[RowResult | None] = asyncio.Queue(_MAX_WAITING_RESULTS)
        self._error: Exception | None = None
        self.labels: dict[int, bool] = {}
        """Labels of the answers that the judges are calibrated on, which their scores take along."""
        self.num_done_before = 0
        self._num_done_now = 0

    def recall(self, todos: Sequence[Todo], resolved: Plan) -> Sequence[Todo]:
        """The same work, with the generations that the cache has."""
        assert resolved.candidate is not None
        keys = self._cache.keys({todo.index: todo.row for todo in todos if todo.generation is None}, resolved.candidate)
        found = self._cache.find(keys.values())
        self._keys.update({index: key for index, key in keys.items() if key not in found})
        return [
            replace(todo, generation=found[keys[todo.index]], is_recalled=True)
            if keys.get(todo.index) in found
            else todo
            for todo in todos
        ]

    async def record(self, result: RowResult) -> None:
        """Take a result in; it is durable soon. Raises what kept an earlier one from being stored."""
        if self._error is not None:
            raise self._error
        if result.index in self.labels:
            label = {"label": self.labels[result.index]}
            result = replace(result, scores={name: {**score, **label} for name, score in result.scores.items()})
        await self._waiting.put(result)

    async def finish(self) -> None:
        """No more results will come."""
        await self._waiting.put(None)

    async def run(self) -> None:
        """Store results until there are no more. After an error the rest is taken in and dropped, so that nobody waits
        for room, and the error is raised at the end."""
        is_finished = False
        while not is_finished:
            batch = [await self._waiting.get()]
            if batch[0] is not None:
                await asyncio.sleep(_GATHER_SECONDS)
            while len(batch) < _BATCH_RESULTS and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            is_finished = batch[-1] is None
            stored = [result for result in batch if result is not None]
            if stored and self._error is None:
                try:
                    await asyncio.to_thread(self._store, stored)
                except Exception as error:
                    self._error = error
        if self._error is not None:
            raise self._error

    def _store(self, batch: Sequence[RowResult]) -> None:
        with self._progress.write() as connection:
            result_store.add(connection, self._progress.job.job_id, batch)
            new = {self._keys.pop(r.index, None): r.generation for r in batch if r.generation is not None}
            self._cache.add(connection, {key: generation for key, generation in new.items() if key is not None})
        self._num_done_now += sum(result.is_last for result in batch)
        self.report()

    def report(self, *, now: bool = False) -> None:
        """Say how far the job is."""
        job = self._progress.job
        num_rows = plan.num_results(job) + job.request.get(calibration.KEY, {}).get("num_rows", 0)
        # Of the rows of earlier attempts not all may have been counted yet.
        num_done = max(self.num_done_before + self._num_done_now, job.progress_done)
        self._progress.report(num_done, num_rows, _UNIT, now=now)
