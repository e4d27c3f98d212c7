"""The store: state, ledger, alert log and outbox in one database."""
