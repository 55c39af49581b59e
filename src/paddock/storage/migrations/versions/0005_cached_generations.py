"""Greedy generations that evaluations share."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "cached_generations",
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("generation_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key_sha256", name=op.f("pk_cached_generations")),
    )
    op.create_index(op.f("ix_cached_generations_created_at"), "cached_generations", ["created_at"])
