"""`python -m bench.webhooks`: how soon a webhook is answered with 202, at ten times a busy site's load.

Ten thousand changes an hour are some three webhooks a second; here thirty come each second, from four senders, on time
whether or not earlier ones were answered (what has to wait is counted as waiting). Each is verified and durable before it
is answered; the database is SQLite, `synchronous=FULL`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import local

import click
import requests

from bench.report import machine
from connectors.base import SecretRef
from connectors.github import GitHubAuth, GitHubSettings
from pmsync.health import Health
from pmsync.store.engine import Store
from pmsync.store.ledger import SqlLedger
from pmsync.web.app import create_app
from pmsync.web.intake import hooks, intake_routes
from pmsync.web.reader import Later
from pmsync.web.serve import serve

SECRET = "a secret"
SENDERS = 4
ISSUES = 200
AIM_MS = 500


@click.command()
@click.option("--rate", default=30, show_default=True, help="Webhooks a second.")
@click.option("--seconds", default=30, show_default=True)
def main(rate: int, seconds: int) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="pmsync-bench-") as folder:
        waits = sorted(measure(Path(folder), rate, seconds))
    p50, p99 = (1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99))
    click.echo(f"- date: {datetime.now(UTC):%Y-%m-%d}\n- machine: {machine()}")
    click.echo(
        f"- {len(waits)} webhooks at {rate}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {1000 * waits[-1]:.1f} ms "
        f"(aim: p99 under {AIM_MS} ms)"
    )


def measure(folder: Path, rate: int, seconds: int) -> list[float]:
    """Seconds from the moment that a webhook was due to its answer."""
    (folder / "secret").write_text(SECRET)
    secret, health = SecretRef(file=folder / "secret"), Health(lambda: datetime.now(UTC))
    source = GitHubSettings(name="gh", kind="github", auth=GitHubAuth(token=secret), webhook_secret=secret)
    with closing(Store(f"sqlite:///{folder / 'pmsync.db'}")) as store:
        store.migrate()
        ledger = SqlLedger(store, store.now)
        intake = intake_routes(hooks([source]), ledger.hint, health)
        with serve(create_app(Later(), lambda: datetime.now(UTC), health, intake=intake)) as url:
            return _sent(f"{url}/webhooks/gh", rate, rate * seconds)


def _sent(url: str, rate: int, count: int) -> list[float]:
    own, begun = local(), time.monotonic() + 0.5

    def send(n: int) -> float:
        due = begun + n / rate
        time.sleep(max(0.0, due - time.monotonic()))
        session = own.__dict__.setdefault("session", requests.Session())
        raw = json.dumps(
            {"repository": {"id": 7, "full_name": "acme/apollo"}, "issue": {"number": n % ISSUES, "body": "x" * 8000}}
        ).encode()
        signature = f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}"
        headers = {"Content-Type": "application/json", "X-GitHub-Event": "issues", "X-Hub-Signature-256": signature}
        answer = session.post(url, data=raw, headers=headers, timeout=30)
        answer.raise_for_status()
        return time.monotonic() - due

    with ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(send, range(count)))


if __name__ == "__main__":
    main()
