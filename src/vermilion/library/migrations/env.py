"""Runs the migrations on the connection, and inside the transaction, that `db.migrate` gives."""

from alembic import context

from vermilion.library.db import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
with context.begin_transaction():
    context.run_migrations()
