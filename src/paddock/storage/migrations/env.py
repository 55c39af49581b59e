"""Alembic's entry: runs the revisions on the connection that `Database.migrate` hands over."""

from alembic import context

from paddock.storage import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata)
context.run_migrations()
