"""What alembic runs: the migrations, in the transaction that `Store.migrate` opened."""

from alembic import context

from pmsync.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
