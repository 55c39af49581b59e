"""Every table, on one page. SQL that reads and writes them stands in the stores; invariants stand here as constraints.

Times are seconds since 1970, UTC. Columns named `…_json` hold JSON text. A dataset's rows are JSON text as the client
sent it: no value ever passes through a float or a column type.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# ---------------------------------------------------------------------------------------------------- datasets

datasets = sa.Table(
    "datasets",
    metadata,
    # The generation: never used again after a deletion, so (generation, length) names a version for good.
    sa.Column("generation", sa.Integer, primary_key=True, autoincrement=True),
    # Null while a registration's rows come in, and again once the dataset is removed: rows of nobody, to be swept.
    sa.Column("dataset_id", sa.Text, unique=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("source_type", sa.Text, nullable=False),
    sa.Column("uri", sa.Text),
    sa.Column("metadata_json", sa.Text, nullable=False),
    # SHA-256 of what the client registered: the same thing twice is fine, another one is a conflict.
    sa.Column("registration_digest", sa.Text, nullable=False),
    sa.Column("num_rows", sa.BigInteger, nullable=False),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    # Rows that lack what the purpose needs, and the first of them.
    sa.Column("num_incomplete_rows", sa.BigInteger, nullable=False),
    sa.Column("first_incomplete_row", sa.BigInteger),
    # NaN and Infinity of a typed source, which are null in the rows.
    sa.Column("num_nan_values", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.CheckConstraint("source_type IN ('rows', 'uri')", name="source_type"),
    sa.CheckConstraint("(source_type = 'uri') = (uri IS NOT NULL)", name="uri"),
    sqlite_autoincrement=True,
)

dataset_rows = sa.Table(
    "dataset_rows",
    metadata,
    sa.Column("generation", sa.Integer, sa.ForeignKey("datasets.generation", ondelete="CASCADE"), primary_key=True),
    sa.Column("row_index", sa.BigInteger, primary_key=True),
    # Not SQLite's WITHOUT ROWID: its pages hold rows of a kilobyte or two, as chats are, at twice the space and a
    # quarter of the speed.
    sa.Column("row_json", sa.Text, nullable=False),
)

ingests = sa.Table(
    "ingests",
    metadata,
    # A long source that a job reads into a generation: the latest such job, whose status is the ingest's until it has
    # finished.
    sa.Column("generation", sa.Integer, sa.ForeignKey("datasets.generation", ondelete="CASCADE"), primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False),
    # Rows of the source that are in the dataset, and the digest by which a later attempt knows them again.
    sa.Column("num_rows_read", sa.BigInteger, nullable=False),
    sa.Column("rows_sha256", sa.Text, nullable=False),
    sa.Column("finished", sa.Boolean, nullable=False),
)

dataset_profiles = sa.Table(
    "dataset_profiles",
    metadata,
    # What is known of the first `as_of_row` rows.
    sa.Column("generation", sa.Integer, sa.ForeignKey("datasets.generation", ondelete="CASCADE"), primary_key=True),
    sa.Column("as_of_row", sa.BigInteger, nullable=False),
    sa.Column("profile_json", sa.Text, nullable=False),
)

row_digests = sa.Table(
    "row_digests",
    metadata,
    # By these equal rows are found, and rows of two datasets that ask the same: as far as the profile has come.
    sa.Column("generation", sa.Integer, sa.ForeignKey("datasets.generation", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("digest", sa.BigInteger, primary_key=True),
    sa.Column("row_index", sa.BigInteger, primary_key=True),
    sa.CheckConstraint("kind IN ('row', 'prompt')", name="kind"),
    sqlite_with_rowid=False,
)

# ---------------------------------------------------------------------------------------------------- inference

models = sa.Table(
    "models",
    metadata,
    sa.Column("model_id", sa.Text, primary_key=True),
    sa.Column("provider_id", sa.Text, nullable=False),
    # What the provider calls it: for `local`, a hub id, a folder, or a checkpoint's folder below the checkpoint root.
    sa.Column("provider_model_id", sa.Text, nullable=False),
    sa.Column("model_type", sa.Text, nullable=False),
    sa.Column("metadata_json", sa.Text, nullable=False),
    # Set for a checkpoint: the job that made it, and for an adapter the model under it.
    sa.Column("job_id", sa.Text),
    sa.Column("base_model", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.CheckConstraint("model_type IN ('llm', 'embedding', 'rerank')", name="model_type"),
)

# ---------------------------------------------------------------------------------------------------- jobs

jobs = sa.Table(
    "jobs",
    metadata,
    # Submission order; ids are the client's or random.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    # The benchmark of an eval job: under another benchmark's id the job is unknown.
    sa.Column("benchmark_id", sa.Text),
    sa.Column("request_json", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    # How often the job was started; every write of a running job names its attempt.
    sa.Column("attempt", sa.Integer, nullable=False),
    # How often its process was lost.
    sa.Column("num_lost", sa.Integer, nullable=False),
    # How often it was put off because something that it needs was away, since it last got something done.
    sa.Column("num_retries", sa.Integer, nullable=False, server_default="0"),
    # Higher ones first; among equals the order of submission.
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    # A job that was put off waits until then.
    sa.Column("not_before", sa.Float),
    sa.Column("worker_id", sa.Text),
    sa.Column("lease_expires_at", sa.Float),
    sa.Column("progress_done", sa.BigInteger, nullable=False),
    sa.Column("progress_total", sa.BigInteger),
    sa.Column("progress_unit", sa.Text),
    sa.Column("resources_json", sa.Text),
    # Of a failed job: why, in words, whether trying again can help, and the last lines that its process printed.
    sa.Column("error", sa.Text),
    sa.Column("retryable", sa.Boolean),
    sa.Column("log_tail", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    # The job that started this one and waits for it: this one is cancelled with it.
    sa.Column("parent_id", sa.Text, index=True),
    sa.CheckConstraint("status IN ('scheduled', 'in_progress', 'completed', 'failed', 'cancelled')", name="status"),
    sa.CheckConstraint("(status = 'in_progress') = (worker_id IS NOT NULL)", name="worker"),
    sa.CheckConstraint("(status = 'in_progress') = (lease_expires_at IS NOT NULL)", name="lease"),
    sa.CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"),
    sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error"),
    sa.CheckConstraint("(status = 'failed') = (retryable IS NOT NULL)", name="retryable"),
    sa.CheckConstraint("log_tail IS NULL OR status = 'failed'", name="log_tail"),
    sa.CheckConstraint("not_before IS NULL OR status = 'scheduled'", name="not_before"),
    sa.CheckConstraint("attempt > 0 OR status IN ('scheduled', 'cancelled')", name="ran"),
    sa.CheckConstraint("(attempt = 0) = (started_at IS NULL)", name="started"),
    sa.CheckConstraint("num_lost >= 0 AND num_retries >= 0 AND num_lost + num_retries <= attempt", name="counts"),
    sa.Index("ix_jobs_status_number", "status", "number"),
    sa.Index("ix_jobs_kind_number", "kind", "number"),
    sa.Index("ix_jobs_benchmark_id", "benchmark_id"),
    sqlite_autoincrement=True,
)

job_datasets = sa.Table(
    "job_datasets",
    metadata,
    # The version of each dataset that a job reads: it reads no further than `num_rows`.
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("dataset_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("num_rows", sa.BigInteger, nullable=False),
    sa.Index("ix_job_datasets_dataset_id", "dataset_id"),
)

_ENDED = sa.text("event IN ('completed', 'failed', 'cancelled')")
_STARTED = sa.text("event = 'started'")

job_events = sa.Table(
    "job_events",
    metadata,
    sa.Column("event_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    # A job ends once, and an attempt begins once.
    sa.Index("uq_job_events_ended", "job_id", unique=True, sqlite_where=_ENDED, postgresql_where=_ENDED),
    sa.Index(
        "uq_job_events_started", "job_id", "attempt", unique=True, sqlite_where=_STARTED, postgresql_where=_STARTED
    ),
    sqlite_autoincrement=True,
)

_IS_REVIVED = (
    "OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> OLD.status OR NEW.attempt < OLD.attempt"
)


def _refuse_update(table: sa.Table, name: str, message: str, condition: str = "1 = 1") -> None:
    """A trigger: no update of `table` may be as `condition` says."""
    start = f"CREATE TRIGGER {name} BEFORE UPDATE ON {table.name}"
    statements = {
        "sqlite": [f"{start} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"],
        "postgresql": [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation'; END $$",
            f"{start} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()",
        ],
    }

    def create(_table: sa.Table, connection: sa.Connection, **_: Any) -> None:
        for statement in statements[connection.dialect.name]:
            connection.exec_driver_sql(statement)

    sa.event.listen(table, "after_create", create)


_refuse_update(jobs, "jobs_end_once", "a job that has ended stays so, and its attempts only rise", _IS_REVIVED)
_refuse_update(job_events, "job_events_stay", "what happened to a job is only ever added to")

job_metrics = sa.Table(
    "job_metrics",
    metadata,
    # One point a step: {"loss": …, "lr": …}. A step that is done again after a kill replaces its point.
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("values_json", sa.Text, nullable=False),
)

# ---------------------------------------------------------------------------------------------------- evaluation

benchmarks = sa.Table(
    "benchmarks",
    metadata,
    sa.Column("benchmark_id", sa.Text, primary_key=True),
    sa.Column("provider_id", sa.Text, nullable=False),
    sa.Column("provider_benchmark_id", sa.Text),
    sa.Column("dataset_id", sa.Text, nullable=False, index=True),
    sa.Column("scoring_functions_json", sa.Text, nullable=False),
    sa.Column("metadata_json", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

scoring_functions = sa.Table(
    "scoring_functions",
    metadata,
    # Those that users registered; the ones that come with Paddock are files in `evaluation/scoring`.
    sa.Column("scoring_fn_id", sa.Text, primary_key=True),
    sa.Column("provider_id", sa.Text, nullable=False),
    sa.Column("provider_scoring_fn_id", sa.Text),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("return_type_json", sa.Text, nullable=False),
    sa.Column("params_json", sa.Text, nullable=False),
    sa.Column("metadata_json", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

generations = sa.Table(
    "generations",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("row_index", sa.BigInteger, primary_key=True),
    sa.Column("generation_json", sa.Text, nullable=False),
    # Whether the row could not be answered: its text says why.
    sa.Column("failed", sa.Boolean, nullable=False),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("scoring_function", sa.Text, primary_key=True),
    sa.Column("row_index", sa.BigInteger, primary_key=True),
    sa.Column("score_json", sa.Text, nullable=False),
    sa.Column("failed", sa.Boolean, nullable=False),
)

cached_generations = sa.Table(
    "cached_generations",
    metadata,
    # The digest of all that a greedy answer depends on; `evaluation.generation_store` makes it.
    sa.Column("key_sha256", sa.Text, primary_key=True),
    sa.Column("generation_json", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
)

# ---------------------------------------------------------------------------------------------------- post_training

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    # `<job_uuid>:epoch-<n>`; the same id stands in `models`, inserted in the same transaction.
    sa.Column("identifier", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id"), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    # Relative to the checkpoint root.
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("metrics_json", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.UniqueConstraint("job_id", "epoch"),
)

resume_points = sa.Table(
    "resume_points",
    metadata,
    # Where a training job goes on after a kill: one rolling state, the folder relative to the job's own.
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

search_trials = sa.Table(
    "search_trials",
    metadata,
    # The trials of a hyperparameter search, from 1; each trains in a job of its own, inserted in the same transaction.
    sa.Column("search_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False, unique=True),
    # The job that scores it, where the objective is a benchmark.
    sa.Column("eval_job_id", sa.Text, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), unique=True),
    # JSON pointer into the request → value.
    sa.Column("params_json", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    # The objective, and the validation losses after each epoch up to where the trial ended.
    sa.Column("value", sa.Float),
    sa.Column("losses_json", sa.Text),
    sa.Column("error", sa.Text),
    sa.CheckConstraint("status IN ('running', 'completed', 'pruned', 'failed')", name="status"),
    sa.CheckConstraint("(status = 'completed') = (value IS NOT NULL)", name="value"),
    sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error"),
)

# ---------------------------------------------------------------------------------------------------- server

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_digest", sa.Text, nullable=False),
    sa.Column("answer_json", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
)
