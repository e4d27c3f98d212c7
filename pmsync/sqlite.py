"""What the embedded log and the embedded store share of SQLite."""

from __future__ import annotations

import sqlite3
import time

BUSY_SECONDS = 30
"""How long one connection waits for another one's transaction."""


def write_ahead(db: sqlite3.Connection) -> None:
    """Switch to WAL; of several processes that do so at once SQLite refuses some instead of letting them wait."""
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)
