"""Connectors: each the single reader of one kind of source."""
