"""Long sources that jobs read, and what is known of rows."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


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
    op.create_table(
        "dataset_profiles",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("as_of_row", sa.BigInteger(), nullable=False),
        sa.Column("profile_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation"],
            ["datasets.generation"],
            name=op.f("fk_dataset_profiles_generation_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_dataset_profiles")),
    )
    op.create_table(
        "row_digests",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.BigInteger(), nullable=False),
        sa.Column("row_index", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('row', 'prompt')", name=op.f("ck_row_digests_kind")),
        sa.ForeignKeyConstraint(
            ["generation"],
            ["datasets.generation"],
            name=op.f("fk_row_digests_generation_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generation", "kind", "digest", "row_index", name=op.f("pk_row_digests")),
        sqlite_with_rowid=False,
    )
