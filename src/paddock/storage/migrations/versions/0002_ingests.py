"""Long sources are read by jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "ingests",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("num_rows_read", sa.BigInteger(), nullable=False),
        sa.Column("rows_sha256", sa.Text(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation"],
            ["datasets.generation"],
            name=op.f("fk_ingests_generation_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_ingests")),
    )
