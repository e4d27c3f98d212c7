"""The worker of the latency benchmark: `python -m bench.latency ADDRESS PREFIX BEFORE COUNT FOLDER`.

It says `ready` when it has folded what was there, and prints when each batch of what came then was committed, as JSON:
(partition, next offset, when).
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pmsync.app import App
from pmsync.config import Config
from pmsync.logs import configure
from pmsync.service import settle

TIME_LIMIT = 300


def main(address: str, prefix: str, before: str, count: str, folder: str) -> None:
    configure(sys.stderr, verbose=False)  # what is written to stdout is answers
    bus = {"kind": "kafka", "bootstrap_servers": address, "prefix": prefix, "member": "bench", "replication": 1}
    config = Config.model_validate({"bus": bus, "store": {"url": f"sqlite:///{Path(folder) / 'pmsync.db'}"}})
    committed: list[tuple[int, int, float]] = []
    offsets: dict[int, int] = {}

    def step(name: str) -> None:
        if name == "committed":
            at = time.time()
            now = app.aggregator.following
            committed.extend((n, offset, at) for n, offset in now.items() if offset != offsets.get(n))
            offsets.update(now)

    with closing(App(config, lambda: datetime.now(UTC), step=step, write=lambda _: None)) as app:
        workers = app.aggregator_workers()
        settle()
        with app.running(workers) as stopped:
            deadline = time.monotonic() + TIME_LIMIT
            for goal in (int(before), int(before) + int(count)):
                while sum(app.aggregator.offsets.values()) < goal:
                    assert time.monotonic() < deadline, "it takes too long"
                    assert not stopped.wait(0.05), "an aggregator died"
                if goal == int(before):
                    committed.clear()
                    print("ready", flush=True)
        print(json.dumps(committed))


if __name__ == "__main__":
    main(*sys.argv[1:])
