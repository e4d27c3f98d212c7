"""`python -m bench.outbox [--messages N]`: what it costs to drain a backlog of the outbox, to people and to a topic.

Nothing is sent anywhere: the senders take what they get. The store is SQLite, or PostgreSQL at `--store`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy import delete, event

from pmsync.notify.notifier import TO_PEOPLE, Manner, Notifier
from pmsync.notify.topics import TopicSender
from pmsync.store.engine import Store
from pmsync.store.outbox import Claimed, Outbox
from pmsync.store.state import Letter, StateStore
from pmsync.store.tables import outbox

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CASES = (("topic", 1), ("mail", 1), ("mail", 1000))


class Sink:
    """Takes everything at once."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner

    def send(self, run: Sequence[Claimed]) -> None: ...


@click.command()
@click.option("--messages", default=10_000, show_default=True)
@click.option("--store", "url", default="", help="Its tables are made, and its outbox is emptied.")
def main(messages: int, url: str) -> None:
    """Drain a backlog, and print what that took."""
    with tempfile.TemporaryDirectory() as folder, closing(Store(url or f"sqlite:///{Path(folder) / 'db'}")) as store:
        store.migrate()
        statements = [0]

        def count(*_: object) -> None:
            statements[0] += 1

        event.listen(store._engine, "before_cursor_execute", count)
        for channel, recipients in CASES:
            with store.write() as db:
                db.execute(delete(outbox))
            _post(store, channel, recipients, messages)
            senders = {"topic": Sink(TopicSender.manner), "mail": Sink(TO_PEOPLE)}
            statements[0] = 0
            begun = time.perf_counter()
            done = Notifier(Outbox(store), senders, lambda: NOW, "bench/1/1").drain()
            took = time.perf_counter() - begun
            assert done.sent == messages
            print(
                f"{channel:5} {messages} messages to {recipients} recipients: {took:.1f} s, "
                f"{statements[0] / messages:.2f} statements each"
            )


def _post(store: Store, channel: str, recipients: int, messages: int) -> None:
    states = StateStore(store)
    epoch = states.take(0, "bench")
    with states.owned(0, epoch) as owned:
        for n in range(messages):
            letter = Letter(f"{n:06}", f"project-{n % 100}", channel, f"to-{n % recipients}", "Subject", "Text" * 300)
            owned.log(letter.project, [], [letter], NOW)


if __name__ == "__main__":
    main()
