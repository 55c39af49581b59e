"""Server, jobs and clients in one process, one step after the other, as a seed says: the code of stores and worker with
crashes in every durable write. Only the operating system's part is played: processes, signals, time.

On SQLite there is one server at a time; on PostgreSQL two share the database. A schedule is a function of its seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crash.faulty_database import WHERES, Crash, FaultyDatabase
from crash.invariants import Violation, Watch
from paddock import runners
from paddock.errors import BackendError, ConflictError, LostLeaseError, NotFoundError
from paddock.evaluation import result_store
from paddock.evaluation.result_store import ResultStore, RowResult
from paddock.jobs import worker as worker_module
from paddock.jobs.job import Job, NewJob
from paddock.jobs.local import EXIT_STOPPED, JobProcess
from paddock.jobs.progress import Progress
from paddock.jobs.store import JobStore
from paddock.jobs.worker import Worker
from paddock.settings import Settings
from paddock.storage.data_dir import DataDir

LEASE_SECONDS = 15.0
MAX_LOST = 4
FUNCTION = "basic::equality"

_MAX_STEPS = 130
_MAX_STEPS_TO_REST = 1500
_CRASH_SHARE = 0.12


class Process:
    """A job's process, as the worker sees it, and its work: rows in transactions, then the end."""

    def __init__(self, world: World, job: Job) -> None:
        self.job_id, self.kind, self.attempt, self.pid = job.job_id, job.kind, job.attempt, 0
        self.exit_code: int | None = None
        self.is_ending = False
        self.is_paused = False
        self._world = world
        self._progress: Progress | None = None
        self._grace = 3
        self._steps = self._work()

    def ask_to_stop(self, *, cancelled: bool) -> None:
        self.is_ending = True
        self._grace -= 1
        if self._progress is not None and not cancelled:
            self._progress.ask_to_stop()
        if cancelled or self._progress is None or self._grace < 0:
            # As `Progress.cancel` and the hard signal do: it is gone at once, a stopped one as well.
            self.die(-9)

    def die(self, code: int) -> None:
        if self.exit_code is None:
            self.exit_code = code

    def reap(self) -> None:
        pass

    def ending(self) -> str:
        return f"it ended with {self.exit_code}."

    @property
    def log_tail(self) -> str:
        return "the last line"

    def step(self) -> None:
        """Go on to the next durable write."""
        try:
            next(self._steps)
        except StopIteration as end:
            self.die(end.value)
        except Crash:
            self.die(-9)
        self._world.look(by=(self.job_id, self.attempt))

    def _work(self) -> Iterator[None]:
        world = self._world
        yield
        job = world.jobs.get(self.job_id)
        if job.attempt != self.attempt or job.status != "in_progress":
            return 0
        self._progress = progress = Progress(job, world.jobs)
        yield
        try:
            num_rows = job.request["num_rows"]
            known = world.results.known(job.job_id, [FUNCTION], 0, num_rows)
            left = [index for index in range(num_rows) if index not in known]
            while left:
                if progress.should_stop:
                    return EXIT_STOPPED
                batch, left = left[:2], left[2:]
                by = {"by": self.attempt}
                found = [RowResult(index, generation=by) for index in batch]
                found += [RowResult(index, scores={FUNCTION: by}) for index in batch]
                with progress.write() as connection:
                    result_store.add(connection, job.job_id, found)
                world.watch.stored |= {(job.job_id, index) for index in batch}
                yield
                progress.note_metrics(num_rows - len(left), loss=1.0)
                progress.report(num_rows - len(left), num_rows, "rows", now=True)
                yield
        except LostLeaseError:
            return 0
        ends = job.request["ends"]
        if ends == "fails":
            return runners.end_badly(progress, world.settings, ValueError("no such column"), world.log_file)
        if ends == "away" and job.num_retries < 2:
            return runners.end_badly(progress, world.settings, BackendError("The model is away."), world.log_file)
        return runners.end_well(progress)


class Server:
    """A server's worker, and the processes that it started."""

    def __init__(self, world: World) -> None:
        self.is_paused = False
        self.processes: list[Process] = []

        def start(job: Job, _settings: Settings, _log_file: Path) -> Any:
            process = Process(world, job)
            self.processes.append(process)
            return process

        start_process: Callable[[Job, Settings, Path], JobProcess] = start
        self.worker = Worker(world.settings, world.data_dir, world.jobs, start_process)

    @property
    def is_stopping(self) -> bool:
        return self.worker._stopping

    @property
    def has_ended(self) -> bool:
        return self.is_stopping and not self.worker._running


class _Time:
    """What the worker's module sees as `time`."""

    def __init__(self, database: FaultyDatabase) -> None:
        self._database = database

    def monotonic(self) -> float:
        return self._database.clock

    def sleep(self, seconds: float) -> None:
        self._database.clock += seconds


class World:
    """One schedule on a database in which nothing else runs."""

    def __init__(self, database: FaultyDatabase, folder: Path, seed: int, crashes: Counter[tuple[str, str]]) -> None:
        self.random = random.Random(seed)
        self.database = database
        self.settings = Settings(
            data_dir=folder,
            lease_seconds=LEASE_SECONDS,
            max_lost_attempts=MAX_LOST,
            max_running_jobs=2,
            max_running_jobs_of_kind={"sft": 1},
            job_retry_seconds=1.0,
        )
        self.data_dir = DataDir(folder)
        self.log_file = folder / "log"
        self.jobs = JobStore(database)
        self.results = ResultStore(database)
        self._crashes = crashes
        self._share = _CRASH_SHARE
        self._max_servers = 1 if database.is_sqlite else 2
        self._servers: list[Server] = []
        self._orphans: list[Process] = []
        """Processes whose server is gone and who do not know it yet."""
        names = [f"{seed}-{number}" for number in range(self.random.randint(1, 4))]
        self._new = [
            NewJob(
                name,
                self.random.choice(["eval", "eval", "sft"]),
                self._request(),
                priority=self.random.choice([0, 0, 1]),
            )
            for name in names
        ]
        self.watch = Watch(database, names, MAX_LOST)
        self._num_commits_seen = database.num_commits
        database.choose = self._choose

    def _request(self) -> dict[str, Any]:
        ends = self.random.choice(["completes", "completes", "completes", "fails", "away"])
        return {"num_rows": self.random.randint(1, 5), "ends": ends}

    def _choose(self, name: str) -> tuple[str, int] | None:
        if self.random.random() >= self._share:
            return None
        where = self.random.choice(WHERES)
        self._crashes[name, where] += 1
        return where, self.random.randint(0, 4)

    # ------------------------------------------------------------------------------------------------ the schedule

    def run(self) -> None:
        """Run the schedule to its end. Raises `Violation`."""
        before, worker_module.time = worker_module.time, _Time(self.database)  # type: ignore[assignment, attr-defined]
        try:
            for _ in range(_MAX_STEPS):
                self.random.choices(*zip(*self._actions(), strict=True))[0]()
                self.look()
            self._come_to_rest()
        finally:
            worker_module.time = before  # type: ignore[attr-defined]
            self.database.choose = lambda _name: None

    def look(self, *, by: tuple[str, int] | None = None) -> None:
        if self.database.num_commits != self._num_commits_seen:
            self._num_commits_seen = self.database.num_commits
            self.watch.look(by=by)

    def _actions(self) -> list[tuple[Callable[[], None], float]]:
        processes = [process for server in self._servers for process in server.processes] + self._orphans
        actions: list[tuple[Callable[[], None], float]] = [
            (self._submit, 1.0),
            (self._cancel, 0.5),
            (self._prioritize, 0.2),
            (self._let_time_pass, 1.0),
        ]
        if len(self._servers) < self._max_servers:
            actions.append((lambda: self._servers.append(Server(self)), 2.0))
        for server in self._servers:
            actions += [
                (lambda server=server: self._tend(server), 0.0 if server.is_paused else 4.0),  # type: ignore[misc]
                (lambda server=server: self._kill(server), 0.15),  # type: ignore[misc]
                (lambda server=server: self._toggle(server), 1.0 if server.is_paused else 0.1),  # type: ignore[misc]
                (lambda server=server: self._stop(server), 0.05),  # type: ignore[misc]
            ]
        for process in processes:
            if process.exit_code is None:
                actions += [
                    (process.step, 0.0 if process.is_paused else 3.0),
                    (lambda process=process: process.die(-9), 0.1),  # type: ignore[misc]
                    (lambda process=process: self._toggle(process), 0.7 if process.is_paused else 0.1),  # type: ignore[misc]
                ]
        return actions

    def _submit(self) -> None:
        new = self.random.choice(self._new)
        try:
            self.jobs.submit(new)
        except Crash:
            return
        self.watch.acknowledged.add(new.job_id)

    def _cancel(self) -> None:
        job_id = self.random.choice(self._new).job_id
        try:
            self.jobs.cancel(job_id)
        except (Crash, NotFoundError, ConflictError):
            return
        self.watch.cancelled.add(job_id)

    def _prioritize(self) -> None:
        try:
            self.jobs.prioritize(self.random.choice(self._new).job_id, self.random.randint(-1, 1))
        except (Crash, NotFoundError, ConflictError):
            return

    def _let_time_pass(self) -> None:
        self.database.clock += self.random.choice([0.2, 1.0, LEASE_SECONDS / 3, LEASE_SECONDS * 1.2])

    def _tend(self, server: Server) -> None:
        try:
            server.worker.tend()
        except Crash:
            self._kill(server)
            return
        except Exception as error:
            # The worker's thread would log it and try again; nothing here gives it a reason to.
            raise Violation(f"the worker met {error!r}") from error
        if not server.is_stopping:
            self.watch.check_leases()
        if server.has_ended:
            self._servers.remove(server)

    def _kill(self, server: Server) -> None:
        """The server is gone at once. Its processes notice sooner or later, and may get on with their work till then."""
        self._servers.remove(server)
        for process in server.processes:
            if process.exit_code is None and self.random.random() < 0.5:
                self._orphans.append(process)
            else:
                process.die(-9)

    def _stop(self, server: Server) -> None:
        server.is_paused = False
        server.worker._stopping = True

    def _toggle(self, stopped: Server | Process) -> None:
        stopped.is_paused = not stopped.is_paused
        if stopped.is_paused and self.random.random() < 0.5:
            self.database.clock += LEASE_SECONDS * 1.5

    def _come_to_rest(self) -> None:
        """Nothing crashes any more; whoever sleeps wakes up. Everything that was begun comes to its end."""
        self._share = 0.0
        for new in self._new:
            self._submit_surely(new)
        for process in self._orphans:
            process.is_paused = False
        for server in self._servers:
            server.is_paused = False
            for process in server.processes:
                process.is_paused = False
        if not any(not server.is_stopping for server in self._servers):
            for server in self._servers:
                while not server.has_ended:
                    self._step_all(server)
            self._servers = [Server(self)]
        for _ in range(_MAX_STEPS_TO_REST):
            self.database.clock += 1.0
            for process in self._orphans:
                if process.exit_code is None:
                    process.step()
            for server in list(self._servers):
                self._step_all(server)
            running = [p for server in self._servers for p in server.processes if p.exit_code is None]
            counts = {job_id: self.jobs.get(job_id).status for job_id in self.watch.job_ids}
            if not running and all(status.is_final for status in counts.values()):
                break
        self.watch.at_rest({new.job_id: new.request["num_rows"] for new in self._new})

    def _submit_surely(self, new: NewJob) -> None:
        self.jobs.submit(new)
        self.watch.acknowledged.add(new.job_id)

    def _step_all(self, server: Server) -> None:
        self._tend(server)
        self.look()
        for process in server.processes:
            if process.exit_code is None:
                process.step()
