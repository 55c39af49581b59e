"""Jobs: what may be tried again and when, priority, the log of a failure; and constraints that hold the state machine."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OLD_CHECKS = {
    "status": "status IN ('scheduled', 'in_progress', 'completed', 'failed', 'cancelled')",
    "worker": "(status = 'in_progress') = (worker_id IS NOT NULL)",
    "lease": "(status = 'in_progress') = (lease_expires_at IS NOT NULL)",
    "ended": "(status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL)",
    "error": "(status = 'failed') = (error IS NOT NULL)",
}
_NEW_CHECKS = {
    "retryable": "(status = 'failed') = (retryable IS NOT NULL)",
    "log_tail": "log_tail IS NULL OR status = 'failed'",
    "not_before": "not_before IS NULL OR status = 'scheduled'",
    "ran": "attempt > 0 OR status IN ('scheduled', 'cancelled')",
    "started": "(attempt = 0) = (started_at IS NULL)",
    "counts": "num_lost >= 0 AND num_retries >= 0 AND num_lost + num_retries <= attempt",
}
_ENDED = "event IN ('completed', 'failed', 'cancelled')"
_STARTED = "event = 'started'"
_TRIGGERS = {
    "jobs_end_once": (
        "jobs",
        "OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> OLD.status OR NEW.attempt < OLD.attempt",
        "a job that has ended stays so, and its attempts only rise",
    ),
    "job_events_stay": ("job_events", "1 = 1", "what happened to a job is only ever added to"),
}


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.add_column("jobs", sa.Column("num_retries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("not_before", sa.Float()))
    op.add_column("jobs", sa.Column("retryable", sa.Boolean()))
    op.add_column("jobs", sa.Column("log_tail", sa.Text()))
    op.execute(sa.text("UPDATE jobs SET retryable = :no WHERE status = 'failed'").bindparams(no=False))
    if is_sqlite:
        # SQLite adds a constraint by making the table anew.
        with op.batch_alter_table("jobs", recreate="always", copy_from=_sqlite_jobs()):
            pass
    else:
        for name, condition in _NEW_CHECKS.items():
            op.create_check_constraint(op.f(f"ck_jobs_{name}"), "jobs", condition)
    op.create_index("ix_jobs_kind_number", "jobs", ["kind", "number"])
    for name, columns, where in (
        ("uq_job_events_ended", ["job_id"], sa.text(_ENDED)),
        ("uq_job_events_started", ["job_id", "attempt"], sa.text(_STARTED)),
    ):
        op.create_index(name, "job_events", columns, unique=True, sqlite_where=where, postgresql_where=where)
    for name, (table, condition, message) in _TRIGGERS.items():
        if is_sqlite:
            op.execute(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
            continue
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()"
        )


def _sqlite_jobs() -> sa.Table:
    return sa.Table(
        "jobs",
        sa.MetaData(),
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("benchmark_id", sa.Text()),
        sa.Column("request_json", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("num_lost", sa.Integer(), nullable=False),
        sa.Column("num_retries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.Float()),
        sa.Column("worker_id", sa.Text()),
        sa.Column("lease_expires_at", sa.Float()),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger()),
        sa.Column("progress_unit", sa.Text()),
        sa.Column("resources_json", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("retryable", sa.Boolean()),
        sa.Column("log_tail", sa.Text()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("parent_id", sa.Text()),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_jobs_job_id")),
        *(
            sa.CheckConstraint(condition, name=op.f(f"ck_jobs_{name}"))
            for name, condition in (_OLD_CHECKS | _NEW_CHECKS).items()
        ),
        sa.Index("ix_jobs_status_number", "status", "number"),
        sa.Index("ix_jobs_benchmark_id", "benchmark_id"),
        sa.Index("ix_jobs_parent_id", "parent_id"),
        sqlite_autoincrement=True,
    )
