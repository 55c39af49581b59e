"""Jobs that other jobs start, and the trials of hyperparameter searches."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("parent_id", sa.Text(), nullable=True))
    op.create_index(op.f("ix_jobs_parent_id"), "jobs", ["parent_id"], unique=False)
    op.create_table(
        "search_trials",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("eval_job_id", sa.Text(), nullable=True),
        sa.Column("params_json", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("losses_json", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'completed') = (value IS NOT NULL)", name=op.f("ck_search_trials_value")),
        sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name=op.f("ck_search_trials_error")),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'pruned', 'failed')", name=op.f("ck_search_trials_status")
        ),
        sa.ForeignKeyConstraint(
            ["search_id"], ["jobs.job_id"], name=op.f("fk_search_trials_search_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.job_id"], name=op.f("fk_search_trials_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["eval_job_id"], ["jobs.job_id"], name=op.f("fk_search_trials_eval_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_search_trials")),
        sa.UniqueConstraint("job_id", name=op.f("uq_search_trials_job_id")),
        sa.UniqueConstraint("eval_job_id", name=op.f("uq_search_trials_eval_job_id")),
    )
